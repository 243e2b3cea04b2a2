//! WebDAV locks, in memory: they end with their time-out, with UNLOCK, or with the server.
//!
//! The table itself is `dav-server`'s, which tells time-outs but does not keep them; this does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dav_server::davpath::DavPath;
use dav_server::ls::{DavLock, DavLockSystem, LsFuture};
use dav_server::memls::MemLs;
use xmltree::Element;

/// The longest lock: a client that still wants it refreshes it, one that is gone does not.
const LONGEST: Duration = Duration::from_secs(3600);

/// Bounds what locks may take in memory.
const MOST: usize = 10_000;

/// A table of locks, shared by its clones.
#[derive(Debug, Clone)]
pub(crate) struct Leases {
    table: Box<MemLs>,
    held: Arc<Mutex<Vec<Held>>>,
}

#[derive(Debug)]
struct Held {
    lock: DavLock,
    until: Instant,
}

impl Leases {
    pub(crate) fn new() -> Self {
        Self { table: MemLs::new(), held: Arc::default() }
    }

    async fn end_what_ran_out(&self, now: Instant) {
        let ended: Vec<Held> = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let (ended, left) =
                std::mem::take(&mut *held).into_iter().partition(|held| held.until <= now);
            *held = left;
            ended
        };
        for held in ended {
            let _ = self.table.unlock(&held.lock.path, &held.lock.token).await;
        }
    }

    fn hold(&self, lock: &DavLock) {
        let until = Instant::now() + lock.timeout.unwrap_or(LONGEST);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|there| there.lock.token != lock.token);
        held.push(Held { lock: lock.clone(), until });
    }

    fn crowd(&self) -> Option<DavLock> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.first().filter(|_| held.len() >= MOST).map(|held| held.lock.clone())
    }
}

fn bounded(timeout: Option<Duration>) -> Option<Duration> {
    Some(timeout.map_or(LONGEST, |asked| asked.min(LONGEST)))
}

impl DavLockSystem for Leases {
    fn lock(
        &self,
        path: &DavPath,
        principal: Option<&str>,
        owner: Option<&Element>,
        timeout: Option<Duration>,
        shared: bool,
        deep: bool,
    ) -> LsFuture<'_, Result<DavLock, DavLock>> {
        let path = path.clone();
        let principal = principal.map(str::to_owned);
        let owner = owner.cloned();
        Box::pin(async move {
            self.end_what_ran_out(Instant::now()).await;
            if let Some(other) = self.crowd() {
                return Err(other);
            }
            let timeout = bounded(timeout);
            let lock = self
                .table
                .lock(&path, principal.as_deref(), owner.as_ref(), timeout, shared, deep)
                .await?;
            self.hold(&lock);
            Ok(lock)
        })
    }

    fn unlock(&self, path: &DavPath, token: &str) -> LsFuture<'_, Result<(), ()>> {
        let (path, token) = (path.clone(), token.to_owned());
        Box::pin(async move {
            let done = self.table.unlock(&path, &token).await;
            if done.is_ok() {
                let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                held.retain(|there| there.lock.token != token);
            }
            done
        })
    }

    fn refresh(
        &self,
        path: &DavPath,
        token: &str,
        timeout: Option<Duration>,
    ) -> LsFuture<'_, Result<DavLock, ()>> {
        let (path, token) = (path.clone(), token.to_owned());
        Box::pin(async move {
            self.end_what_ran_out(Instant::now()).await;
            let lock = self.table.refresh(&path, &token, bounded(timeout)).await?;
            self.hold(&lock);
            Ok(lock)
        })
    }

    fn check(
        &self,
        path: &DavPath,
        principal: Option<&str>,
        ignore_principal: bool,
        deep: bool,
        submitted_tokens: Vec<&str>,
    ) -> LsFuture<'_, Result<(), DavLock>> {
        let path = path.clone();
        let principal = principal.map(str::to_owned);
        let tokens: Vec<String> = submitted_tokens.into_iter().map(str::to_owned).collect();
        Box::pin(async move {
            self.end_what_ran_out(Instant::now()).await;
            let tokens = tokens.iter().map(String::as_str).collect();
            self.table.check(&path, principal.as_deref(), ignore_principal, deep, tokens).await
        })
    }

    fn discover(&self, path: &DavPath) -> LsFuture<'_, Vec<DavLock>> {
        let path = path.clone();
        Box::pin(async move {
            self.end_what_ran_out(Instant::now()).await;
            self.table.discover(&path).await
        })
    }

    fn delete(&self, path: &DavPath) -> LsFuture<'_, Result<(), ()>> {
        self.table.delete(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_ends_when_its_time_has_run_out() {
        let leases = Leases::new();
        let path = DavPath::new("/a").unwrap();
        let held = leases.lock(&path, None, None, None, false, true).await.unwrap();
        assert_eq!(held.timeout, Some(LONGEST));
        assert!(leases.check(&path, None, false, true, Vec::new()).await.is_err());
        assert!(leases.lock(&path, None, None, None, true, true).await.is_err());
        leases.end_what_ran_out(Instant::now() + LONGEST).await;
        assert!(leases.check(&path, None, false, true, Vec::new()).await.is_ok());
        assert!(leases.refresh(&path, &held.token, None).await.is_err());
        let short = Some(Duration::ZERO);
        leases.lock(&path, None, None, short, false, true).await.unwrap();
        assert!(leases.discover(&path).await.is_empty());
    }
}
