package main

// The texts of fanlight watch, for its help and its man page.

const watchLong = `Watch shows what happens to the files under each PATH (a directory, a file or a
mount point), with everything below it and whatever is mounted there. Without a
PATH it watches the whole machine: every mounted filesystem but the kernel's own
pseudo filesystems. It needs root (CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH); without,
paths that the user may read can be watched, and processes are not known. Mounts
are looked at once, at the start.

With a COMMAND behind -- it runs that, shows all that it and its children did to
files, and ends with its exit status.

A line on standard error that starts with "ready" says that every mark is in
place: what happens after it is reported. What watch does itself is left out.

An event may have several names, because the kernel merges what happens to a
file until it is read. In which order they happened is not known; a line shows
them in the order in which they mostly do.`

const watchExamples = `  # what happens on the whole machine
  sudo fanlight watch

  # what an installation writes outside of /usr/share
  sudo fanlight watch --exclude '/usr/share/*' /usr /etc

  # who reads the secrets, as JSON
  sudo fanlight watch --json -e reads --path '/etc/ssl/private/*'

  # wait for a finished upload, for a minute at most
  sudo fanlight watch --count 1 --timeout 1m -e close_write,rename /srv/upload

  # names of every kind, for a script
  sudo fanlight watch --format %p -0 /srv |
      while IFS= read -r -d '' path; do ls -ld -- "$path"; done

  # what a build reads, and what it writes where it should not
  sudo fanlight watch --output reads.log -e open / -- make
  sudo fanlight watch --exclude "$PWD/*" / -- make install DESTDIR=/tmp/x

  # who in a running service writes below /etc, and who started that
  sudo fanlight watch --parents --tree "$(pidof -s sshd)" /etc

  # build anew whenever the sources have changed and are quiet again
  sudo fanlight watch --settle 200ms --format %p src |
      while IFS= read -r path; do [ -n "$path" ] || make; done

  # wait until an unpacked tree is complete, and list it
  sudo fanlight watch --settle 2s --count 1 --format %p /srv/upload

  # the busiest directories of ten seconds
  sudo fanlight watch --summary --duration 10s

  # a log that logrotate may move away
  sudo fanlight watch --timefmt '%F %T' --output /var/log/fanlight.log /etc`

const watchMore = `Events:
  changes  create, delete, rename, modify, close_write, attrib, mnt_attach,
           mnt_detach
  reads    open, access, close_nowrite, open_exec
  all      changes, reads, delete_self, move_self

  create, delete          a name was made, removed
  rename                  a name was moved; has the old and the new path
  moved_from, moved_to    the two sides of that, one by one
  modify                  data was written, or the size changed
  attrib                  metadata changed: owner, mode, times, links, xattrs
  open, open_exec         opened; opened to be executed
  access                  data was read
  close_write             closed after it was open for writing
  close_nowrite           closed after it was open for reading
  delete_self, move_self  the object itself is gone, was moved; only where the
                          kernel tells its name
  mnt_attach, mnt_detach  something was mounted at the path and is watched, was
                          unmounted; both for a mount that was moved
  fs_error                the filesystem that is mounted at the path reported an
                          error of its own, as ext4 does
  ondir                   said beside the others when it was a directory

Output:
  A line has the time, the process as name[pid], the names of the event, and the
  path, or "old -> new". A ? stands for what is not known. "(current)" before a
  path says that it was looked up after the event and may be a later name.

  What is not printable UTF-8 is escaped in a line, as \n, \r, \t or \xNN, and a
  backslash as \\, so that no name makes a second line or drives the terminal.
  JSON has such names in path_raw too, in base64.

  Nothing is lost in silence. Where events were lost, a line in their place says
  how many, where and why; it has -- after the time. In JSON it is a record with
  "lost" or the event "overflow"; with --format, %e is lost or overflow.

  With --parents the ancestors stand behind the process, the parent first:
  touch[42]<make[41]<bash[7]. In JSON they are "ancestors" of "process", a list
  of objects with pid and comm. With --details, "process" has what is known of
  cmdline, gid, login_uid, start, cgroup and container.

  In a terminal, a last line on standard error says how many events were seen
  and lost.

Command:
  It is started when every mark is in place, with the standard streams of watch;
  what is shown goes to standard output, unless --output takes it. What it and
  its descendants did until it ended is shown, also by those that lost their
  parent. What they do when it has ended is not.

  A process that was gone before anything could be learned of it is shown with a
  ? for its name: it may be one of the command's, or a stranger.

  SIGINT, SIGTERM, SIGQUIT and SIGHUP are the command's. --count, --duration and
  a reader that goes end what is shown, not the command: watch waits for it.

Batches:
  With --settle, what happens is held back until nothing that is asked for came
  for the time D. Then each path is written once, in the order of first sight,
  with all that happened to it and the time of the last of it. The process is
  there if it was only one. An empty line ends the batch, with --null an empty
  record, and in JSON an object with "batch" (its number, from 1), "settled" and
  no events.

  A rename is two paths here: the old one has moved_from, the new one moved_to.
  If they are directories (ondir), everything below them went along.

  Losses are records in the batch: one for the scope of each overflow, and one
  with the count of events that the output lost. What is below the scope may
  have changed unseen.

  A batch is written before it settled when it has 65,536 records or 16 MiB of
  paths, when it went on for 10 s or ten times D, whichever is more, and when
  the watch ends. In JSON "settled" is then false, and but for the end, a line
  on standard error says so.

Format:
  %w  the directory, with a slash at the end
  %f  the name in it
  %p  the path; of a rename the old one
  %n  the new path of a rename
  %e  the names of the event, joined by commas
  %T  the time in the form of --timefmt
  %P  the process id
  %c  the name of the process
  %x  the executable of the process
  %a  its ancestors as name[pid], with blanks between them
  %0  a NUL byte
  %%  a percent sign

  What is not known is empty. The path of an overflow is the directory below
  which events were lost. Names are escaped as in a line; with --null they are
  written as they are.

Globs:
  The patterns of --path, --exe, --cwd and --comm are those of fnmatch(3) with
  FNM_EXTMATCH, and match the whole text: * (which crosses /), ?, [a-z], @(a|b),
  ?(a), *(a), +(a), !(a). Of several, one must match, and none that begins with
  a minus. A rename matches if its old or its new path does.

Signals:
  SIGINT, SIGTERM  end: write what is pending, for a second at most; the second
                   signal ends at once
  SIGHUP           open the file of --output anew

Exit status:
  0  done: told to end, --count or --duration reached, or the reader is gone
  1  failed: no such path, no privilege, a named path that can't be watched
  2  usage
  3  nothing came within --timeout

  With a command it is that of the command, 128+N if signal N ended it, or:

  125  watch itself failed, or its usage; a command that runs is waited for
  126  the command can't be executed
  127  there is no such command`
