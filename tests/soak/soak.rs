//! A day of a big anonymous FTP site with half of its clients hostile, against the real server: at the end
//! all clients die at once, and every count has to be back where it was.
//!
//! Started by `scripts/soak`, which builds it. Linux only: it reads /proc.

mod chart;
mod client;
mod crowd;
mod dice;
mod kinds;
mod report;
mod sample;
mod server;
mod site;
mod stats;
mod uploads;
mod warm;
mod zoo;

use argh::FromArgs;
use crowd::Progress;
use report::{Noise, Outcome, Run, settled};
use rustix::process::{Pid, setpriority_process};
use sample::{Look, Sampler, Subject};
use server::Server;
use std::fs;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the state is sampled, and how often in a run so short that there would be few samples.
const SAMPLE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(50));

/// Logons below which a run is short.
const SHORT: u64 = 20_000;

/// Looks in the second half of all logons from which growth can be told: the load goes on until there are so many.
const ENOUGH: usize = 20;

/// How often the progress is written: on a terminal, and elsewhere.
const PROGRESS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Longest wait for zero sessions after the death of all clients, and then for the rest to settle: the kernel
/// keeps a record of each port that was used for the minute of TIME_WAIT.
const PATIENCE: Duration = Duration::from_secs(80);

/// Time without a logon after which nobody gets in any more.
const STUCK: Duration = Duration::from_secs(30);

/// How long the processor is watched at rest.
const REST: Duration = Duration::from_millis(1000);

/// a day of a big anonymous FTP site, half of its clients hostile
#[derive(FromArgs)]
struct Options {
    /// logons to make (default 50000)
    #[argh(option, default = "50_000")]
    logons: u64,

    /// make a million logons
    #[argh(switch)]
    million: bool,

    /// most seconds under load, however many logons that makes (default: as many as it takes)
    #[argh(option)]
    seconds: Option<u64>,

    /// file to write the report to, besides standard output
    #[argh(option)]
    report: Option<PathBuf>,

    /// file to write the picture to, as SVG
    #[argh(option)]
    svg: Option<PathBuf>,

    /// seed of the clients (default: by the clock; it is printed)
    #[argh(option)]
    seed: Option<u64>,

    /// leave the server's allocator as it comes: threads keep freed memory for themselves, and more noise is
    /// allowed for it (default: one arena and no such caches, so that what is resident is what is held)
    #[argh(switch)]
    stock_allocator: bool,

    /// the server's binary (scripts/soak gives it)
    #[argh(option)]
    server: PathBuf,

    /// be the clients of the server at this port: how the program starts itself
    #[argh(option)]
    clients: Option<u16>,
}

fn main() -> ExitCode {
    let mut options: Options = argh::from_env();
    if options.million {
        options.logons = 1_000_000;
    }
    let seed = options.seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::from(now.subsec_nanos()) ^ now.as_secs()
    });
    let outcome = match options.clients {
        Some(port) => crowd::run(port, seed).map(|()| true),
        None => run(&options, seed),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The whole run; `false` where something is not back.
fn run(options: &Options, seed: u64) -> io::Result<bool> {
    println!("soak: {} logons, seed {seed}", stats::thousands(options.logons));
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("site");
    site::make(&root)?;
    let accounts = uploads::make(folder.path())?;
    let mut server = Server::start(&options.server, &root, &accounts, options.stock_allocator)?;
    let cgroup = server.cgroup.clone();
    let run = measure(options, seed, &mut server);
    if run.is_err() {
        eprintln!("the last of the server's log:\n{}", server.tail());
    }
    drop(server);
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
    let mut run = run?;
    run.torn = uploads::fault(folder.path())?;
    let (report, good) = run.report();
    println!("\n{report}");
    if let Some(path) = &options.report {
        fs::write(path, &report)?;
    }
    if let Some(path) = &options.svg {
        fs::write(path, chart::svg(&run))?;
    }
    Ok(good)
}

fn measure(options: &Options, seed: u64, server: &mut Server) -> io::Result<Run> {
    let subject = Subject::new(server.pid(), server.port, server.cgroup.clone());
    let cold = subject.look_at_all()?;
    warm::up(server)?;
    until_zero(server)?;
    let rest = processor_at_rest(&subject)?;
    let baseline = subject.look_at_all()?;

    let every = if options.logons < SHORT { SAMPLE.1 } else { SAMPLE.0 };
    let mut crowd = Crowd::start(options, seed, server.port)?;
    let began = Instant::now();
    let sampler = Sampler::start(subject.clone(), every, crowd.logons());
    let load = crowd.watch(options, &sampler, began);
    let death = Look { logons: crowd.progress().of("logons"), ..subject.look_at_all()? };
    let audit = server.audit()?;
    let (died, seconds) = (Instant::now(), began.elapsed().as_secs_f64());
    crowd.kill();
    let outcome = load?;
    let zero_after = until_zero(server)?.then(|| died.elapsed());
    let zero = subject.look_at_all()?;
    let progress = crowd.progress();
    let noise = Noise::new(options.stock_allocator, subject.has_cgroup());
    let end = settle(&subject, &baseline, noise)?;
    let settled_after = died.elapsed();
    let rest = (rest, processor_at_rest(&subject)?);
    let mut looks = sampler.finish();
    looks.extend([death, Look { logons: progress.of("logons"), ..zero }]);
    looks.sort_by(|a, b| a.at.total_cmp(&b.at));
    let last_audit = server.audit()?;
    let counters = server.counters();
    let ended_well = server.stop()?.success();
    Ok(Run {
        seed,
        wanted: options.logons,
        outcome,
        names: server.names.clone(),
        stock_allocator: options.stock_allocator,
        noise,
        cold,
        baseline,
        at_rest: rest,
        looks,
        death,
        audit,
        zero_after,
        last_audit,
        left: server.state(),
        settled_after,
        end,
        progress,
        seconds,
        counters,
        defects: server.defects(),
        ended_well,
        torn: None,
    })
}

/// Waits until the server counts nobody; `false` if it does not come to that.
fn until_zero(server: &Server) -> io::Result<bool> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if server.audit()?.is_zero() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(false)
}

/// Waits until everything is as it was, or for as long as is reasonable.
fn settle(subject: &Subject, baseline: &Look, noise: Noise) -> io::Result<Look> {
    let end = Instant::now() + PATIENCE;
    loop {
        let look = subject.look_at_all()?;
        if settled(baseline, &look, noise) || Instant::now() >= end {
            return Ok(look);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn processor_at_rest(subject: &Subject) -> io::Result<f64> {
    let before = subject.look()?;
    std::thread::sleep(REST);
    let after = subject.look()?;
    Ok((after.processor - before.processor) / (after.at - before.at) * 100.0)
}

/// The process of the clients.
struct Crowd {
    child: Child,
    progress: Arc<Mutex<Progress>>,
}

impl Crowd {
    fn start(options: &Options, seed: u64, port: u16) -> io::Result<Crowd> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--clients", &port.to_string(), "--seed", &seed.to_string(), "--server"])
            .arg(&options.server)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let progress = Arc::new(Mutex::new(Progress::default()));
        if let Some(out) = child.stdout.take() {
            let progress = Arc::clone(&progress);
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    *progress.lock().unwrap_or_else(PoisonError::into_inner) = Progress::parse(&line);
                }
            });
        }
        Ok(Crowd { child, progress })
    }

    fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells how many logons there are so far, whenever it is asked.
    fn logons(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let progress = Arc::clone(&self.progress);
        move || progress.lock().unwrap_or_else(PoisonError::into_inner).of("logons")
    }

    /// Waits until all logons are made and seen often enough, the time is up, or nobody gets in any more.
    fn watch(&mut self, options: &Options, sampler: &Sampler, began: Instant) -> io::Result<Outcome> {
        let terminal = io::stdout().is_terminal();
        let every = if terminal { PROGRESS.0 } else { PROGRESS.1 };
        let (mut told, mut moved) = (began, (0, began));
        loop {
            let progress = self.progress();
            let logons = progress.of("logons");
            if logons != moved.0 {
                moved = (logons, Instant::now());
            }
            let outcome = if logons >= options.logons && sampler.since(logons / 2) >= ENOUGH {
                Some(Outcome::Done)
            } else if options.seconds.is_some_and(|most| began.elapsed().as_secs() >= most) {
                Some(Outcome::TimeUp)
            } else if moved.1.elapsed() >= STUCK {
                Some(Outcome::Stuck)
            } else {
                None
            };
            if told.elapsed() >= every || (outcome.is_some() && terminal) {
                told = Instant::now();
                tell(&progress, options.logons, began, &sampler.last(), terminal);
            }
            if let Some(outcome) = outcome {
                if terminal {
                    println!();
                }
                return Ok(outcome);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the clients ended: {status}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The death of all clients at once, in a moment where the host allows it: its kernel would take as long to end their
    /// connections as they would have to wait for a processor.
    fn kill(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        for task in tasks.filter_map(|task| Pid::from_raw(task.file_name().to_str()?.parse().ok()?)) {
            let _ = setpriority_process(Some(task), -20);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One line of progress: a bar that is drawn over itself on a terminal.
fn tell(progress: &Progress, wanted: u64, began: Instant, look: &Look, terminal: bool) {
    let logons = progress.of("logons");
    let filled = usize::try_from(logons.min(wanted) * 30 / wanted.max(1)).unwrap_or(0);
    let line = format!(
        "{}/{} logons, {:.0} a second, {} hostile connections, {} descriptors, {} anonymous",
        stats::thousands(logons),
        stats::thousands(wanted),
        logons as f64 / began.elapsed().as_secs_f64().max(1e-9),
        progress.of("zoo"),
        look.descriptors,
        stats::mib(look.anonymous),
    );
    if terminal {
        print!("\r[{:<30}] {line}\x1b[K", "#".repeat(filled));
        let _ = io::stdout().flush();
    } else {
        println!("{line}");
    }
}
