//! What is asked of a configuration.

use super::{Access, Anonymous, Config, DEFAULT_BANNER, MAX_PER_ADDRESS_MIN, Records, Storing, Timeouts, banner};
use crate::limits;
use log::LevelFilter;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;

impl Config {
    /// The folder to serve, as typed: it need not exist. The current folder is `.`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The addresses to listen on: from one to [`limits::LISTEN_MAX`]. Port 0 lets the kernel
    /// choose.
    #[must_use]
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// Whether no `--listen` was given.
    #[must_use]
    pub fn listen_is_default(&self) -> bool {
        self.listen_is_default
    }

    /// Sessions served at once: from 1 to [`limits::WORKERS_MAX`].
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Whether the number of workers is to follow from the limits of the host: `--workers auto`.
    #[must_use]
    pub fn workers_auto(&self) -> bool {
        self.workers_auto
    }

    /// The same with this many workers, at least one, and the caps that follow from it.
    #[must_use]
    pub fn with_workers(self, workers: usize) -> Self {
        let workers = workers.max(1);
        Self { workers, workers_auto: false, ..self }
    }

    /// `--memory-limit` in bytes; `None` where there is none but the host's.
    #[must_use]
    pub fn memory_limit(&self) -> Option<u64> {
        self.memory_limit
    }

    /// Connections that may wait for a worker: from 1 to [`limits::QUEUE_MAX`].
    #[must_use]
    pub fn queue(&self) -> usize {
        self.queue
    }

    /// The stack of each worker in bytes: from [`limits::STACK_SIZE_MIN`] to
    /// [`limits::STACK_SIZE_MAX`].
    #[must_use]
    pub fn stack_size(&self) -> usize {
        self.stack_size
    }

    /// How long each state may last.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Bytes a second, over [`Timeouts::stall`], below which a transfer is ended; at least 1.
    #[must_use]
    pub fn min_rate(&self) -> Option<u64> {
        self.min_rate
    }

    /// `--max-per-ip`: sessions for each client address (IPv6: each /64); at least 1.
    #[must_use]
    pub fn max_per_address(&self) -> Option<usize> {
        self.max_per_address.or(Some((self.workers / 4).max(MAX_PER_ADDRESS_MIN)))
    }

    /// Sessions for each user; at least 1.
    #[must_use]
    pub fn max_per_user(&self) -> Option<usize> {
        self.max_per_user.or(None)
    }

    /// Connections that are not logged in, those that wait for a worker included; at least 1.
    #[must_use]
    pub fn max_unauthenticated(&self) -> Option<usize> {
        self.max_unauthenticated.or(Some((self.workers / 2).saturating_add(self.queue)))
    }

    /// Transfers at once whose send buffer may grow with the path.
    #[must_use]
    pub fn wide_transfers(&self) -> usize {
        self.wide_transfers.unwrap_or((self.workers / limits::WORKERS_FOR_A_WIDE_TRANSFER).max(1)).min(self.workers)
    }

    /// Bytes in which folders are remembered; 0 for none.
    #[must_use]
    pub fn listing_memory(&self) -> usize {
        let typed = self.listing_memory.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        typed.unwrap_or(self.workers.saturating_mul(limits::LISTING_MEMORY_PER_WORKER).max(limits::LISTING_PIECE))
    }

    /// The ports for passive data connections: at least [`Config::workers`] of them, none of them
    /// 0.
    #[must_use]
    pub fn passive_ports(&self) -> RangeInclusive<u16> {
        self.passive_ports.clone()
    }

    /// The address to put into the reply to PASV, where it is not that of the control connection
    /// (RFC 959 §4.1.2).
    #[must_use]
    pub fn passive_address(&self) -> Option<Ipv4Addr> {
        self.passive_address
    }

    /// Whether active data connections, PORT and EPRT, are allowed.
    #[must_use]
    pub fn active(&self) -> bool {
        self.active
    }

    /// The lines of the greeting, without code and line end: at least one, none with control
    /// characters, none too long for a reply line.
    #[must_use]
    pub fn banner(&self) -> &[String] {
        &self.banner
    }

    /// Reads the greeting again, where `--banner` names a file.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn read_banner(&self) -> Result<Vec<String>, String> {
        let typed = self.banner_typed.as_deref().unwrap_or(DEFAULT_BANNER);
        banner::lines(typed).map_err(|fault| fault.text)
    }

    /// Whether `--banner` names a file.
    #[must_use]
    pub fn banner_is_a_file(&self) -> bool {
        self.banner_typed.as_deref().is_some_and(|typed| typed.starts_with('@'))
    }

    /// Who may come in.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// How uploads are stored.
    #[must_use]
    pub fn storing(&self) -> &Storing {
        &self.storing
    }

    /// What is written down.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Whether anybody may upload: then sessions need memory to receive.
    #[must_use]
    pub fn uploads(&self) -> bool {
        self.access.accounts.is_some() || matches!(self.access.anonymous, Anonymous::DropBox(_))
    }

    /// What to log, or `None` where `--log` is absent: then `RUST_LOG` decides, or else `warn` is
    /// meant.
    #[must_use]
    pub fn log_level(&self) -> Option<LevelFilter> {
        self.log_level
    }
}
