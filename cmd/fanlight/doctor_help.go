package main

// The texts of fanlight doctor, for its help and its man page.

const doctorLong = `Doctor says what Fanlight can do on this machine, what it can't, and why: on
each mount at and below each PATH, or without a PATH on every mounted filesystem
but the kernel's own pseudo filesystems; then what this kernel has, the limits
and who uses them up, and who else listens.

Everything is tried, in a way that leaves no trace: no mark is ever set for
which anybody could have to wait. A mount that doesn't answer within two seconds
is left alone, and the table says so. Without root less can be tried; what needs
root is said.`

const doctorExamples = `  # the whole machine
  sudo fanlight doctor

  # can /srv be watched, with all that is mounted there?
  sudo fanlight doctor /srv

  # for a script: the mounts that need a mark on each directory
  sudo fanlight doctor --json |
      jq -r '.mounts[] | select(.watch.form == "inodes") | .mount_point'

  # who could make an open(2) wait?
  sudo fanlight doctor --json | jq '.listeners[] | select(.can_block)'`

const doctorMore = `Watch:
  filesystem   by one mark on the filesystem, with handles and names
  top level    likewise, through the top level of the btrfs
  directories  by a mark on each directory: they are walked at the start, and
               cost memory
  no           not at all
  ?            it could not be tried

Table:
  PERMISSION   whether opening, reading and executing can be decided about
  PRE-CONTENT  whether content can be filled in before it is read
  HANDLES      open: events name objects that can be found again; identify: they
               only tell objects apart; none
  SOURCE       what is mounted; left out where the table would be too wide

  A filesystem that is mounted in several places has one row, for the mount that
  shows most of it. A number in brackets leads to the reason below the table.
  Names are escaped as fanlight watch does it.

JSON:
  kernel, privilege  the release; uid, capabilities, missing_capabilities
  findings           level (problem, warning, note), code, text, remedy
  mounts             mount_point, asked, also_at, fs_type, source, device,
                     watch (form: filesystem, subvolume, inodes, none, unknown;
                     errno, reason, remedy), permission_events,
                     pre_content_events (answer: yes, no, unknown; errno,
                     reason, remedy), handles (open, identify, none, unknown),
                     inodes_in_use, no_answer
  features           name, answer, since, for, reason
  process_connector  answer, errno, reason, remedy
  limits             name, value, for
  users              uid, name, groups, marks
  listeners          pid, fd, comm, exe, uid, user, class, can_block,
                     unlimited_queue, stopped, marks (target, mount_point,
                     fs_type, device, count, events, ignored)
  listeners_error    why nobody could be asked
  unreadable_processes  the pids that could not be asked for their groups

  Members without a value may be missing; members are added, never renamed. A
  name that isn't UTF-8 stands in base64 in a member beside it, with _raw.

Exit status:
  0  everything that was asked for can be watched
  1  something can't, or the examination failed: no such path
  2  usage`
