"""The exit statuses of commands besides 0, success, and 2, wrong usage. docs/cli.md lists them."""

#: The call failed, or the answer is bad news: a feed with differences, a failed delivery.
FAILED = 1
#: feedsvc itself has a defect (EX_SOFTWARE of sysexits.h).
DEFECT = 70
#: Standard output cannot be written (EX_IOERR of sysexits.h).
OUTPUT_FAILED = 74
#: Ctrl-C, as shells report it: 128 and the number of SIGINT.
INTERRUPTED = 130
#: The reader of standard output has ended, as after SIGPIPE.
READER_LEFT = 141
#: SIGTERM.
TERMINATED = 143
