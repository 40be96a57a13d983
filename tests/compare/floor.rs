// The floor: the least that a server with a thread for each connection can cost. It understands nothing, keeps
// nothing, checks nothing and answers canned text, so its price is what the kernel charges for the same packets.
// It is no FTP server, and it is for loopback only. scripts/compare compiles it (rustc -O) and measures it beside the
// others.
//   floor HOST:PORT THREADS FILE      whatever is asked for, it sends FILE
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
extern "C" {
    fn sendfile(o: i32, i: i32, off: *mut i64, n: usize) -> isize;
}
static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let l = TcpListener::bind(&a[1]).unwrap();
    let file = a[3].clone();
    let hs: Vec<_> = (0..a[2].parse::<usize>().unwrap())
        .map(|_| {
            let (l, file) = (l.try_clone().unwrap(), file.clone());
            std::thread::Builder::new()
                .stack_size(64 << 10)
                .spawn(move || loop {
                    let (s, _) = l.accept().unwrap();
                    let _ = one(s, &file);
                })
                .unwrap()
        })
        .collect();
    for h in hs {
        h.join().unwrap();
    }
}
fn one(mut s: TcpStream, file: &str) -> std::io::Result<()> {
    s.set_nodelay(true)?;
    let mut b = [0u8; 512];
    let mut pasv: Option<TcpListener> = None;
    s.write_all(b"220 x\r\n")?;
    loop {
        let n = s.read(&mut b)?;
        if n < 4 {
            return Ok(());
        }
        match &b[..4] {
            b"USER" => s.write_all(b"331 x\r\n")?,
            b"PASS" => s.write_all(b"230 x\r\n")?,
            b"PASV" | b"EPSV" => {
                let d = loop {
                    let p = 20000 + (NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 10000) as u16;
                    if let Ok(d) = TcpListener::bind(("127.0.0.1", p)) {
                        break d;
                    }
                };
                let p = d.local_addr()?.port();
                if b[0] == b'E' {
                    s.write_all(format!("229 x (|||{p}|)\r\n").as_bytes())?;
                } else {
                    s.write_all(format!("227 x (127,0,0,1,{},{})\r\n", p >> 8, p & 255).as_bytes())?;
                }
                pasv = Some(d);
            }
            b"RETR" => {
                let (d, _) = pasv.take().unwrap().accept()?;
                s.write_all(b"150 x\r\n")?;
                let f = std::fs::File::open(file)?;
                let len = f.metadata()?.len() as usize;
                let mut sent = 0;
                while sent < len {
                    let k = unsafe { sendfile(d.as_raw_fd(), f.as_raw_fd(), std::ptr::null_mut(), len - sent) };
                    if k <= 0 {
                        break;
                    }
                    sent += k as usize
                }
                drop(d);
                s.write_all(b"226 x\r\n")?
            }
            b"QUIT" => {
                s.write_all(b"221 x\r\n")?;
                return Ok(());
            }
            _ => s.write_all(b"200 x\r\n")?,
        }
    }
}
