/* Answers which texts match which patterns by the C library's own fnmatch(3).

   Reads records from standard input: a letter, a 32-bit length in the machine's byte order, and that many bytes.
     'L'  the name of the locale to use from here on
     'C'  no more texts: forgets those so far
     'T'  a text
     'P'  a pattern: answered by one byte for each text, 0 for a match, 1 for none, 2 for an error  */

#define _GNU_SOURCE
#include <fnmatch.h>
#include <locale.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die (const char *what)
{
  fprintf (stderr, "fnmatch: %s\n", what);
  exit (1);
}

int main (void)
{
  char **texts = NULL;
  size_t count = 0;
  int kind;

  unsetenv ("POSIXLY_CORRECT");
  while ((kind = getchar ()) != EOF)
    {
      uint32_t length;
      if (fread (&length, sizeof length, 1, stdin) != 1)
        die ("short record");
      char *data = malloc ((size_t) length + 1);
      if (data == NULL || fread (data, 1, length, stdin) != length)
        die ("short record");
      data[length] = '\0';
      switch (kind)
        {
        case 'L':
          if (setlocale (LC_ALL, data) == NULL)
            die ("no such locale");
          free (data);
          break;
        case 'C':
          while (count > 0)
            free (texts[--count]);
          free (data);
          break;
        case 'T':
          texts = realloc (texts, (count + 1) * sizeof *texts);
          if (texts == NULL)
            die ("no memory");
          texts[count++] = data;
          break;
        case 'P':
          for (size_t i = 0; i < count; i++)
            {
              int r = fnmatch (data, texts[i], FNM_EXTMATCH);
              putchar (r == 0 ? 0 : r == FNM_NOMATCH ? 1 : 2);
            }
          free (data);
          break;
        default:
          die ("unknown record");
        }
    }
  return fflush (stdout) != 0;
}
