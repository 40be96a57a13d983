//! plimsoll, the program: arguments, configuration, log, server, exit code.

use plimsoll::config::{Invocation, from_arguments};
use plimsoll::{load, logger, passwd, server::Server};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match from_arguments(std::env::args_os().skip(1)) {
        Ok(Invocation::Print(text)) => {
            let mut out = std::io::stdout().lock();
            match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&format!("standard output can't be written: {error}"), 1),
            }
        }
        Ok(Invocation::Serve(config)) => {
            if let Err(error) = load::pool_server::end_with_parent() {
                return fail(&error.to_string(), 1);
            }
            logger::start(config.log_level());
            match Server::start(config) {
                Ok(server) => {
                    if let Err(error) = server.announce() {
                        log::warn!("the ready line can't be written: {error}");
                    }
                    if server.run() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
                }
                Err(error) => fail(&error.to_string(), 1),
            }
        }
        Ok(Invocation::Load(asked)) => match load::run(&asked) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => fail(&error.to_string(), error.exit_code()),
        },
        Ok(Invocation::Passwd(asked)) => match passwd::run(&asked) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string(), error.exit_code()),
        },
        Err(error) => fail(&error.to_string(), error.exit_code()),
    }
}

/// One line on standard error for each thing that is wrong.
fn fail(text: &str, code: u8) -> ExitCode {
    for line in text.lines() {
        eprintln!("plimsoll: {line}");
    }
    ExitCode::from(code)
}
