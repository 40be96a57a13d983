//! Every cap and timeout that is not a flag, each with its reason, and the defaults of those that are.
//!
//! Nothing here depends on anything else; everything else may depend on this.

use std::time::Duration;

// --- Control connection -------------------------------------------------------------------------

/// Longest command line in bytes, line end included. A path may be 4,096 bytes on Linux (PATH_MAX);
/// RFC 959 sets no length. This is also the size of the one buffer that holds what a client has sent.
pub const LINE_MAX: usize = 4096;

/// Bytes of one over-long line that are read and thrown away before the connection is closed: enough
/// to answer a clumsy client's long line with 500 and go on, too little to be worth sending.
pub const LINE_DISCARD_MAX: usize = 64 * 1024;

/// Bytes of replies that wait for the next flush. A larger reply is flushed in parts.
pub const REPLY_BUFFER: usize = 2048;

/// Longest reply line in bytes, CRLF included, as clients with fixed buffers expect; only a line that
/// has to hold a long path may be longer.
pub const REPLY_LINE_MAX: usize = 510;

/// Failed logins after which a session ends with 421.
pub const LOGIN_FAILURES_MAX: u32 = 3;

/// Kernel receive buffer of a control connection in bytes (the kernel doubles it): four command lines.
pub const CONTROL_RECEIVE_BUFFER: usize = 16 * 1024;

/// Kernel send buffer of a control connection in bytes (the kernel doubles it): a client that reads no
/// replies can pin no more than this.
pub const CONTROL_SEND_BUFFER: usize = 16 * 1024;

/// How long unacknowledged replies stay in the kernel when a peer has vanished (TCP_USER_TIMEOUT).
pub const CONTROL_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes read and thrown away at the end of a session so that closing does not turn into a reset that
/// destroys the last reply.
pub const GOODBYE_DRAIN_MAX: usize = 64 * 1024;

// --- Pathnames ----------------------------------------------------------------------------------

/// Longest pathname in bytes, after it was joined to the current directory (Linux: PATH_MAX).
pub const PATH_MAX: usize = 4096;

/// Longest single name in bytes (Linux: NAME_MAX).
pub const NAME_MAX: usize = 255;

/// Links followed for one pathname by the component walk (Linux follows 40 as well).
pub const LINKS_MAX: usize = 40;

/// Steps that one glob pattern may take on one name. A pattern without malice needs a few hundred.
pub const GLOB_STEPS_MAX: usize = 8192;

// --- Data connection ----------------------------------------------------------------------------

/// Buffer for data, one for each worker, allocated once: listings and ASCII conversion work in it.
pub const DATA_BUFFER: usize = 64 * 1024;

/// Buffer for the names of one folder, one for each worker: a folder that fits is listed in order of
/// name, a larger one in runs of as many names as fit, each in order.
pub const NAMES_BUFFER: usize = 48 * 1024;

/// Pieces in which `--listing-memory` is given out: a folder of some 2,500 files takes one.
pub const LISTING_PIECE: usize = 64 * 1024;

/// `--listing-memory` for each worker: 8 MiB in a pool of 256, some 300,000 files.
pub const LISTING_MEMORY_PER_WORKER: usize = 32 * 1024;

/// Largest `--listing-memory` in bytes that is believed to be meant.
pub const LISTING_MEMORY_MAX: u64 = 1024 * 1024 * 1024;

/// Folders that are remembered at once: more than a few large ones that are listed again and again are rare.
pub const KNOWN_FOLDERS: usize = 64;

/// Least entries of a folder that is remembered: a smaller one is read as soon as it is looked for.
pub const KNOWN_ENTRIES_MIN: usize = 128;

/// Folders that were listed once of which a note is kept: the second listing is worth remembering.
pub const FOLDERS_NOTED: usize = 256;

/// How long one session may write a folder down before the next may do so as well, if memory is free: a slow client
/// takes a listing slowly. Whoever takes longer than [`KNOWN_FOR`] has it in vain.
pub const LENT_FOR: Duration = Duration::from_secs(2);

/// What it may cost to begin to watch a folder, and for each of its entries: measured, an entry takes 20 to 90 ns.
/// Names that were asked for and are not there cost as much, and any client can make a million of them.
pub const WATCH_COST: (Duration, Duration) = (Duration::from_millis(5), Duration::from_nanos(200));

/// How long a folder that cost more is read each time.
pub const DEAR_FOR: Duration = Duration::from_secs(60);

/// Such folders of which is known.
pub const DEAR_FOLDERS: usize = 64;

/// How long a folder is told from memory at most: what inotify(7) does not tell of is found after that. Short
/// for an eye that waits for a file to grow, and hundreds of times what it takes to read a folder again.
pub const KNOWN_FOR: Duration = Duration::from_secs(10);

/// Buffer for what the kernel tells of a folder at once (getdents64), one for each worker: some two
/// hundred names, and at least one of the longest.
pub const READ_BUFFER: usize = 8 * 1024;

/// Bytes asked of one sendfile(2): each goes on its way at once, and three of them are within the narrow window,
/// so that one is on its way while the client takes another and acknowledges a third. Measured over loopback, and
/// more so than anything else here: with two, of 64K or as one call for all that fits, a download is half as fast
/// and costs twice as much; with four, of 32K, there is a segment that is not full in each of them.
pub const SENDFILE_CHUNK: usize = 48 * 1024;

/// How often a transfer that waits for room looks at what its client has taken: what is on its way leaves
/// room only once a third of it was taken, for which a slow client needs many seconds.
pub const TAKEN_EVERY: Duration = Duration::from_millis(500);

/// Bytes sent without having had to wait after which the control connection is looked at anyway.
pub const UNHEARD_MAX: u64 = 8 * 1024 * 1024;

/// Bytes that the kernel may hold for a data connection, unsent and unacknowledged (SO_SNDBUF, which the
/// kernel doubles, is half of it). It bounds the rate on a long path, to about 1.5 MiB/s where a round trip
/// takes 100 ms, and costs a short one nothing: measured, twice as much is not faster.
pub const NARROW_WINDOW: usize = 128 * 1024;

/// The same for a transfer over a short path that turns out to be slow although its client is quick: where it is dear to
/// wake a thread, as in some virtual machines, a narrow window has both ends sleep after every few chunks. Measured there:
/// one download at 0.4 of the rate of an unbounded window with the narrow one, at 0.95 with this. Where a wake is
/// cheap it is the other way round, by a factor of two; so each transfer finds out. Twice the send buffer that Linux allows
/// by default (net.core.wmem_max), less a little.
pub const ROOMY_WINDOW: usize = 384 * 1024;

/// Bytes of a transfer after each of which its window may grow: so many that a moment without a processor does not count.
pub const ROOMY_EVERY: u64 = 16 * 1024 * 1024;

/// How long a quick transfer takes for them at most, at 670 MB/s, and one whose client or network is slow, which no window
/// helps, at least, at 140 MB/s: Gigabit Ethernet carries less.
pub const ROOMY_TIMES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(120));

/// Bytes asked of one sendfile(2) with a roomy window: as many as a full segment holds.
pub const ROOMY_CHUNK: usize = 64 * 1024;

/// By how much the kernel exceeds that: it always fills the segment that it has begun.
pub const SEGMENT: usize = 64 * 1024;

/// Round trips from which on a transfer gains by a wide window: below it, a narrow one carries 64 MB/s.
pub const LONG_PATH: Duration = Duration::from_millis(2);

/// Bytes not yet sent that the kernel holds for a data connection of the wide ones (TCP_NOTSENT_LOWAT);
/// what is unacknowledged may grow with the path. Measured: one stalled RETR holds 3,994 KiB of kernel
/// memory without it and 102 KiB with it.
pub const NOTSENT_LOWAT: u32 = 128 * 1024;

/// Largest send buffer of a connection (the third number of net.ipv4.tcp_wmem) where the host does not
/// tell: Linux's own default.
pub const WIDE_WINDOW: usize = 4 * 1024 * 1024;

/// `--wide-transfers`: one for this many workers.
pub const WORKERS_FOR_A_WIDE_TRANSFER: usize = 32;

/// First and longest time after which a peer that did not close its side at the end of a transfer is
/// asked for: has its kernel acknowledged everything? Some programs close theirs only after 226.
pub const FINISH_LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// A peer that does not acknowledge this share of what was on its way at the end of a transfer within
/// the stall timeout has stalled, unless it keeps to the minimum rate.
pub const FINISH_STEPS: usize = 8;

/// Connections that wait at a passive port: strangers may come first, the owner must still fit. Each
/// costs memory, and is counted in the load line.
pub const PASSIVE_BACKLOG: i32 = 16;

/// The same where what they hold may be sent on by uploads: each of them has a window of its own. A full
/// backlog delays the owner, whose kernel tries again, and keeps nobody out: strangers are dropped as they
/// come.
pub const PASSIVE_BACKLOG_RECEIVING: i32 = 2;

/// `--upload-window`: the kernel's memory for what is received over a data connection (SO_RCVBUF, which the
/// kernel doubles, is half of it). Measured over loopback: half as much costs 2.5 times the CPU, twice as
/// much is not cheaper. A stalled upload held 131 KiB of it at most, whatever it was sent in.
pub const UPLOAD_WINDOW: usize = 128 * 1024;

/// How long the first lines of a listing wait for more before they are sent: a folder on a slow disk would
/// otherwise show nothing until the buffer is full, and look like a stalled transfer.
pub const LISTING_PAUSE: Duration = Duration::from_millis(500);

/// Kernel receive buffer of a data connection in bytes (the kernel doubles it) over which nothing is
/// received.
pub const DATA_RECEIVE_BUFFER: usize = 2048;

/// How far a rate that is kept may run ahead (after a pause), or fall behind and make up for it: 2% of ten
/// seconds. A worker that wakes this much too late loses nothing of its rate.
pub const PACE_BURST: Duration = Duration::from_millis(200);

/// Bytes moved in one turn of a rate that is kept: small, so that those who share one take turns often.
pub const PACE_PIECE: usize = 64 * 1024;

/// Longest turn of a rate that is kept, where that is less than a piece.
pub const PACE_TURN: Duration = Duration::from_millis(100);

/// How much longer than it must a transfer waits for its turn: then several turns follow at once, and a high
/// rate costs 50 waits a second and not one for each piece.
pub const PACE_SLACK: Duration = Duration::from_millis(20);

/// How often a transfer that waits for its turn tells the reaper so.
pub const HOLD_STEP: Duration = Duration::from_millis(500);

/// How long the control connection has to stay as it is when a data connection that is received from has
/// ended: a client that is killed ends both, in any order, and what it sent is not whole. One that has a session
/// ends them within a millisecond, where nothing else runs; one that is killed with 283 of them took 11 ms to end
/// them all, and 17 where others wanted the processors as well.
pub const END_LOOK: Duration = Duration::from_millis(15);

/// How much longer for each session from the same address, which may be those of one program.
pub const END_LOOK_FOR_EACH: Duration = Duration::from_micros(100);

/// And how long at most.
pub const END_LOOK_MAX: Duration = Duration::from_millis(30);

/// How long a client whose upload has failed here may take to hear so before its data connection is reset: lftp
/// would otherwise see the reset first, and begin again, up to a thousand times.
pub const REFUSAL_LOOK: Duration = Duration::from_secs(1);

/// Random passive ports tried before the range is searched in order.
pub const PASSIVE_TRIES: usize = 16;

/// Least port to which an active data connection is opened (RFC 2577 §3).
pub const ACTIVE_PORT_MIN: u16 = 1024;

// --- Process ------------------------------------------------------------------------------------

/// Connections that wait in the kernel for the acceptor. It never waits for a client, so this only has
/// to cover a burst (the kernel caps it at net.core.somaxconn).
pub const LISTEN_BACKLOG: i32 = 4096;

/// How often the reaper looks at deadlines while there are sessions.
pub const REAPER_TICK: Duration = Duration::from_millis(100);

/// How long a worker may take to say 421 and leave after the reaper has marked its session.
pub const KILL_GRACE: Duration = Duration::from_secs(2);

/// Idle timeouts after which a session that has moved no data ends, however many NOOPs it sends.
pub const CAMPING: u32 = 12;

/// How often the reaper compares what the registry says with what the workers do.
pub const AUDIT_EVERY: Duration = Duration::from_secs(1);

/// Audits in a row that must disagree before it is a defect: sessions on their way from the queue to a
/// worker are in neither for a moment.
pub const AUDITS_AGREE: u32 = 5;

/// Bytes of a pathname that are kept for the state of the server.
pub const NOTE_MAX: usize = 120;

/// What the reaper adds to a deadline that a worker enforces itself, before it steps in.
pub const BACKSTOP: Duration = Duration::from_secs(2);

/// First and longest pause after accept(2) has failed for want of resources.
pub const ACCEPT_BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Descriptors besides those of sessions: the standard streams, the root folder, the signal pipe,
/// wake-ups, a spare one to refuse with, and what the libraries may open for a moment.
pub const DESCRIPTORS_SPARE: usize = 32;

/// Descriptors that one session can hold: control connection, passive listener, data connection, file
/// or folder, and two while a pathname is walked.
pub const DESCRIPTORS_PER_SESSION: usize = 6;

// --- Journal ------------------------------------------------------------------------------------

/// Lines that wait for the writer of `--transfer-log` and `--events`: what half a second of logons at full
/// speed makes.
pub const JOURNAL_LINES: usize = 2048;

/// Bytes of these lines; what does not fit is dropped and counted. Lines are mostly of 100 to 300 bytes.
pub const JOURNAL_BYTES: usize = 256 * 1024;

/// The share of it that refusals may use: strangers cause as many as they like, and must not crowd out what
/// users do.
pub const JOURNAL_STRANGERS_BYTES: usize = JOURNAL_BYTES / 2;

/// Bytes that wait to be written to one file: any line fits.
pub const JOURNAL_PENDING: usize = 96 * 1024;

/// How long the writer gathers lines before it writes them with one call. Whoever makes a line in this time
/// does not have to wake it.
pub const JOURNAL_LINGER: Duration = Duration::from_millis(10);

/// Pause before the next try where a pipe is full.
pub const JOURNAL_AGAIN: Duration = Duration::from_millis(50);

/// Pause before the next try where a file can't be opened or written: the disk is full, nobody reads the pipe.
pub const JOURNAL_RETRY: Duration = Duration::from_secs(1);

/// How often one file that can't be written is complained of: the log may be on the same disk.
pub const JOURNAL_COMPLAINT: Duration = Duration::from_secs(60);

/// How long the last lines may take to be written at the end.
pub const JOURNAL_GOODBYE: Duration = Duration::from_secs(1);

/// Stack of the writer in bytes.
pub const JOURNAL_STACK: usize = 128 * 1024;

// --- Files of the operator ----------------------------------------------------------------------

/// Ranges of `--deny-file`: the long lists of the net have some tens of thousands. 2 MiB where all are IPv6.
pub const DENY_RANGES_MAX: usize = 65_536;

/// Longest line of `--deny-file` in bytes, its comment included.
pub const DENY_LINE_MAX: usize = 1024;

/// Largest `--deny-file` in bytes: as many ranges as there may be, with a short comment each.
pub const DENY_FILE_MAX: u64 = 8 * 1024 * 1024;

/// Faults of one file that are told.
pub const FAULTS_TOLD: usize = 10;

/// Most bytes of a `.message`, and most lines: it is sent with the reply to CWD.
pub const MESSAGE_MAX: (usize, usize) = (2048, 24);

// --- Defaults and bounds of flags ---------------------------------------------------------------

/// `--workers`: measured at about 35 KiB of memory for each while idle.
pub const WORKERS: usize = 256;
/// Most workers: beyond this a thread for each session is the wrong server.
pub const WORKERS_MAX: usize = 16_384;
/// `--queue`: a burst of page-like loads; those who wait hold no worker.
pub const QUEUE: usize = 64;
/// Most connections that may wait for a worker.
pub const QUEUE_MAX: usize = 16_384;
/// Most workers of `--workers auto`: more has to be meant.
pub const WORKERS_AUTO_MAX: usize = 1024;
/// Least `--memory-limit` in bytes: one worker does not fit less.
pub const MEMORY_LIMIT_MIN: u64 = 1024 * 1024;
/// `--shed-after`: longer than a person's or a program's pause between two commands of one task, and
/// short enough that a newcomer is in within 3 s.
pub const SHED_AFTER: Duration = Duration::from_secs(2);
/// Sessions that are shed at one look of the reaper, ten times a second: each is chosen among all.
pub const SHED_AT_ONCE: usize = 256;
/// How long an address whose session was shed is turned away while room is short: otherwise whoever was
/// sent away is the first to ask for the place that this made free, and mostly gets it.
pub const SHED_PENALTY: Duration = Duration::from_secs(5);
/// `--stack-size` in bytes: workers use no recursion and no large arrays.
pub const STACK_SIZE: u64 = 128 * 1024;
/// Least stack in bytes: below it the runtime itself may not fit.
pub const STACK_SIZE_MIN: u64 = 64 * 1024;
/// Largest stack in bytes that is believed to be meant.
pub const STACK_SIZE_MAX: u64 = 64 * 1024 * 1024;
/// `--idle-timeout`: RFC 1123 §4.1.3.2 asks for at least five minutes.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// `--login-timeout`: absolute, no byte extends it.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// `--data-timeout`: how long a data connection may take to be there.
pub const DATA_TIMEOUT: Duration = Duration::from_secs(30);
/// `--stall-timeout`: no byte moved for this long ends the session; also the window of `--min-rate`.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// `--min-rate` in bytes a second, over the window of the stall timeout: slower than any modem.
pub const MIN_RATE: u64 = 256;
/// `--queue-timeout`: how long a connection waits for a worker before it gets 421.
pub const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);
/// `--grace`: how long transfers may go on after SIGTERM.
pub const GRACE: Duration = Duration::from_secs(10);
/// Least timeout of any kind.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// Longest timeout of any kind that is believed to be meant.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// `--passive-ports`: 10,000 ports below the range from which Linux takes ephemeral ports.
pub const PASSIVE_PORTS: (u16, u16) = (20_000, 29_999);
/// Least rate of `--anon-rate` and `max-rate` in bytes a second: below it a transfer would look like a stalled
/// one to every client.
pub const PACE_MIN: u64 = 1024;
/// Bytes that an account takes in memory, with what its sessions share; there are two tables for the moment in
/// which one takes the place of the other.
pub const ACCOUNT_BYTES: usize = 2048;
/// Accounts, and ranges of the deny list, that a reload may bring beyond twice as many as there were at start:
/// the load line has counted no more.
pub const MORE_AT_RELOAD: usize = 1000;
/// Bytes of a range of the deny list.
pub const RANGE_BYTES: usize = 32;
/// Descriptors that a session which may write can hold besides: the root of its user, and the folder of an
/// upload.
pub const DESCRIPTORS_PER_WRITER: usize = 2;
/// Most of `--password-checks`: each takes a processor and up to 64 MiB.
pub const PASSWORD_CHECKS_MAX: usize = 64;
/// `--incoming-mode`: for the operator's eyes alone.
pub const INCOMING_MODE: u32 = 0o600;
/// `--umask`.
pub const UMASK: u32 = 0o022;
/// Bytes of an upload after which the disk is asked again whether enough of it is free, where much is free.
pub const SPACE_EVERY: u64 = 1024 * 1024;
/// How often the files of a root are counted anew because there seems to be no room: others than the server may
/// have removed some.
pub const RECOUNT_EVERY: Duration = Duration::from_secs(60);
/// How long that may take: a worker does it, and has looked at some 200,000 names by then.
pub const RECOUNT_TIME: Duration = Duration::from_secs(1);
/// `--min-free` in bytes: a disk that is full to its last byte stops more than this server.
pub const MIN_FREE: u64 = 16 * 1024 * 1024;
/// Files for which a disk keeps room as well, unless a percentage is asked for: empty files and folders take
/// no bytes, and a disk on which no file can be made is as full as any.
pub const MIN_FREE_FILES: u64 = 1024;
/// Least and largest of `--upload-window`.
pub const UPLOAD_WINDOWS: (usize, usize) = (16 * 1024, 4 * 1024 * 1024);
/// Most bytes of a banner, and most lines: it is sent to every client.
pub const BANNER_MAX: (usize, usize) = (2048, 24);
/// Most `--listen` addresses.
pub const LISTEN_MAX: usize = 16;

// --- Accounts -----------------------------------------------------------------------------------

/// Largest accounts file in bytes: what it says is in memory, twice while it is read again.
pub const ACCOUNTS_FILE_MAX: usize = 8 * 1024 * 1024;
/// Most accounts.
pub const ACCOUNTS_MAX: usize = 10_000;
/// Longest line of an accounts file in bytes: a path of [`PATH_MAX`] with every byte escaped, and the rest.
pub const ACCOUNT_LINE_MAX: usize = 12 * 1024;
/// Longest account name in bytes.
pub const ACCOUNT_NAME_MAX: usize = 64;
/// Most networks from which one account may log in.
pub const ACCOUNT_NETWORKS_MAX: usize = 32;
/// Faults of one accounts file that are told one by one.
pub const ACCOUNT_FAULTS_MAX: usize = 20;
/// Least and largest `max-rate` in bytes a second: what a transfer can live on, and what is believed to be
/// meant.
pub const ACCOUNT_RATE: (u64, u64) = (1024, 1 << 40);
/// Largest `quota` in bytes that is believed to be meant.
pub const ACCOUNT_QUOTA_MAX: u64 = 1 << 50;

/// Longest password in bytes, as in libxcrypt (CRYPT_MAX_PASSPHRASE_SIZE): the work of `$5$` and `$6$` grows
/// with it, and a longer one never reaches a hash.
pub const PASSWORD_MAX: usize = 512;
/// What `plimsoll passwd` makes: argon2id with this much memory in KiB, as OWASP's password storage cheat
/// sheet has it. One check takes some 15 ms.
pub const ARGON2_MEMORY: u32 = 19 * 1024;
/// Passes over it.
pub const ARGON2_PASSES: u32 = 2;
/// Lanes: one, because a check has one thread.
pub const ARGON2_LANES: u32 = 1;
/// Most memory in KiB that a hash in the accounts file may ask for. It is in the load line.
pub const ARGON2_MEMORY_MAX: u32 = 64 * 1024;
/// Most passes: with the most memory a check takes half a second.
pub const ARGON2_PASSES_MAX: u32 = 16;
/// Most lanes.
pub const ARGON2_LANES_MAX: u32 = 4;
/// Most rounds of `$5$` and `$6$`: a check takes 0.4 s, and 3 s with the longest password.
pub const CRYPT_ROUNDS_MAX: u32 = 1_000_000;
/// Different costs of the hashes in one accounts file. Every check computes one hash of each, so that its time
/// does not tell which name it was for.
pub const HASH_COSTS_MAX: usize = 4;

/// How often a session that waits for its turn at the password checks asks whether its client is still there.
pub const GATE_ASK_EVERY: Duration = Duration::from_millis(100);

/// Address prefixes whose failed logins are remembered.
pub const THROTTLE_ENTRIES: usize = 4096;
/// Failed logins of one prefix that slow nobody down: two sessions of one who mistypes.
pub const THROTTLE_FREE: u32 = 6;
/// How long a prefix waits after the first failure beyond those; each further one doubles it, up to the second.
pub const THROTTLE_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// Time without a failure after which those of a prefix are forgotten.
pub const THROTTLE_FORGET: Duration = Duration::from_secs(900);
