//! Lists the objects of a kind, watches what becomes of them, and begins anew where that is what it takes.
//!
//! - A list comes in pages and is told as a whole once the last is there.
//! - A watch goes on from the version of the list, of the last change or of the last bookmark. One that ends, breaks off or
//!   falls silent is asked for again from there, and nothing is lost.
//! - Where the server has forgotten what was then (410 Gone), everything is listed again.
//! - Whatever fails is tried again after a while that grows, is never the same for two agents, and is at least what the server
//!   asks for.
//!
//! kube's own `watcher` does much of this, but one object that it can't read costs it the whole list, it keeps bookmarks to
//! itself, and a watch that is refused with 410 it asks for again as it was, for ever.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::metrics::kubernetes::{Reason, Verb};
use crate::source::kubernetes::Server;
use crate::source::kubernetes::complaint::Complaints;
use crate::source::kubernetes::object::Kind;
use crate::source::kubernetes::pace::{Backoff, once_or_twice, up_to};
use crate::source::kubernetes::read::{Bookmark, News, Page, Read, read};
use crate::source::kubernetes::trouble::{Status, Trouble};
use crate::source::kubernetes::wire::ask;
use crate::source::restart::{Closed, tell};
use crate::source::{Change, Told};

/// A watch that lasted so long, even one without a word, was none of a server that is in trouble.
const LASTED: Duration = Duration::from_secs(5);
/// An outage is spoken of again after that.
const REMIND: Duration = Duration::from_secs(300);

/// Tells of all objects of a kind, and of what changes, until nobody listens any more; `changes` makes of the word on this kind what
/// is told.
pub(super) async fn follow<K: Kind>(
    kind: &K,
    server: &Server,
    changes: impl Fn(Told<K::Fact>) -> Vec<Change>,
) -> Closed {
    let mut follower = Follower {
        kind,
        server,
        changes,
        version: None,
        objects: 0,
        listed_before: false,
        backoff: Backoff::new(server.pace),
        complaints: Complaints::default(),
        outage: Outage::default(),
    };
    loop {
        let outcome = match follower.version.clone() {
            None => follower.list().await,
            Some(version) => follower.watch(version).await,
        };
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(trouble)) => follower.recover(&trouble).await,
            Err(Closed) => return Closed,
        }
    }
}

/// Done as far as it goes, or [`Closed`].
type Outcome = Result<Result<(), Trouble>, Closed>;

struct Follower<'a, K, C> {
    kind: &'a K,
    server: &'a Server,
    changes: C,
    /// Up to where everything was told; `None` where a list is needed.
    version: Option<String>,
    /// How many there are.
    objects: usize,
    listed_before: bool,
    backoff: Backoff,
    complaints: Complaints,
    outage: Outage,
}

impl<K: Kind, C: Fn(Told<K::Fact>) -> Vec<Change>> Follower<'_, K, C> {
    async fn list(&mut self) -> Outcome {
        let (facts, objects, version) = match self.pages().await {
            Ok(everything) => everything,
            Err(trouble) => {
                // One that was there and is not now is rather a server that is starting.
                let missing = matches!(trouble, Trouble::Status { code: 404, .. }) && self.kind.may_be_missing();
                if missing && !self.listed_before {
                    self.heard();
                    self.tell(Instant::now(), Told::All(Vec::new())).await?;
                }
                return Ok(Err(trouble));
            }
        };
        self.version = Some(version);
        self.listed_before = true;
        self.objects = objects;
        self.heard();
        tracing::debug!(kind = self.kind.name(), objects, told = facts.len(), "listed");
        self.tell(Instant::now(), Told::All(facts)).await?;
        Ok(Ok(()))
    }

    /// All that is told of, how many objects there are, and the version of the list.
    async fn pages(&mut self) -> Result<(Vec<K::Fact>, usize, String), Trouble> {
        let limit = self.server.pace.page.to_string();
        let (mut facts, mut objects) = (Vec::new(), 0);
        let mut next: Option<String> = None;
        loop {
            let mut parameters = vec![("limit", limit.as_str())];
            parameters.extend(next.iter().map(|token| ("continue", token.as_str())));
            let answer = ask(self.kind, self.server, Verb::List, &parameters).await?;
            let text = answer.whole(self.server.pace.answer).await?;
            let page = Page::read(&text).map_err(Trouble::Protocol)?;
            for item in page.items() {
                objects += 1;
                let item = read(self.kind, item);
                self.complain(&item);
                facts.extend(item.fact);
            }
            next = page.next().map(str::to_owned);
            if next.is_none() {
                let version = page.version().ok_or_else(|| Trouble::Protocol("a list without a version".into()))?;
                facts.shrink_to_fit();
                return Ok((facts, objects, version.to_owned()));
            }
        }
    }

    async fn watch(&mut self, version: String) -> Outcome {
        let began = Instant::now();
        let seconds = once_or_twice(self.server.pace.watch).as_secs().max(1).to_string();
        let parameters = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version.as_str()),
            ("timeoutSeconds", seconds.as_str()),
        ];
        let mut answer = match ask(self.kind, self.server, Verb::Watch, &parameters).await {
            Ok(answer) => answer,
            Err(trouble) => return Ok(Err(trouble)),
        };
        self.heard();
        let mut line = Vec::new();
        loop {
            match answer.line(self.server.pace.silence, &mut line).await {
                Ok(true) if line.iter().all(u8::is_ascii_whitespace) => {}
                Ok(true) => match self.news(Instant::now(), &line).await? {
                    Ok(()) => {
                        self.backoff.reset();
                        self.heard();
                    }
                    Err(trouble) => return Ok(Err(trouble)),
                },
                Ok(false) if began.elapsed() < LASTED => {
                    return Ok(Err(Trouble::Connection(anyhow::anyhow!("a watch ended at once"))));
                }
                Ok(false) => {
                    self.backoff.reset();
                    return Ok(Ok(()));
                }
                Err(trouble) => return Ok(Err(trouble)),
            }
        }
    }

    async fn news(&mut self, seen: Instant, line: &[u8]) -> Outcome {
        let news: News<'_> = match serde_json::from_slice(line) {
            Ok(news) => news,
            Err(error) => {
                // What it said is lost.
                self.version = None;
                return Ok(Err(Trouble::Protocol(format!("news: {error}"))));
            }
        };
        let text = news.object.get();
        let item = match &*news.kind {
            "ADDED" | "MODIFIED" => {
                self.objects += usize::from(news.kind == "ADDED");
                let item = read(self.kind, text);
                self.complain(&item);
                item
            }
            "DELETED" => {
                self.objects = self.objects.saturating_sub(1);
                Read { fact: None, ..read(self.kind, text) }
            }
            "BOOKMARK" => match serde_json::from_str::<Bookmark>(text) {
                Ok(Bookmark { metadata }) => {
                    self.version = Some(metadata.resource_version);
                    return Ok(Ok(()));
                }
                Err(error) => return Ok(Err(Trouble::Protocol(format!("a bookmark: {error}")))),
            },
            "ERROR" => {
                let status: Status = serde_json::from_str(text).unwrap_or_default();
                return Ok(Err(status.trouble(None, None)));
            }
            other => return Ok(Err(Trouble::Protocol(format!("news of the type {other:?}")))),
        };
        match (item.fact, item.name) {
            (Some(fact), _) => self.tell(seen, Told::One(fact)).await?,
            (None, Some(name)) => self.tell(seen, Told::Gone(name)).await?,
            // Nothing that was told has such a name.
            (None, None) => {}
        }
        self.version = item.version.filter(|version| !version.is_empty()).or(self.version.take());
        Ok(Ok(()))
    }

    async fn tell(&self, seen: Instant, told: Told<K::Fact>) -> Result<(), Closed> {
        for change in (self.changes)(told) {
            tell(&self.server.events, seen, change).await?;
        }
        Ok(())
    }

    fn heard(&mut self) {
        self.server.metrics.heard(self.kind.name(), self.objects);
        self.outage.ends(self.kind.name());
    }

    fn complain(&mut self, item: &Read<K::Fact>) {
        let (reason, complaint) = match (&item.error, &item.doubts[..]) {
            (Some(error), _) => (Reason::Object, format!("it is left out: {error}")),
            (None, []) => return,
            (None, doubts) => (Reason::Address, doubts.join("; ")),
        };
        self.server.metrics.failed(self.kind.name(), reason);
        if let Some(unsaid) = self.complaints.due(Instant::now()) {
            let name = item.name.as_deref().unwrap_or("without a name");
            tracing::warn!(
                kind = self.kind.name(),
                name,
                unsaid,
                "the API server tells what makes no sense: {complaint}"
            );
        }
    }

    async fn recover(&mut self, trouble: &Trouble) {
        self.server.metrics.failed(self.kind.name(), trouble.reason());
        let mut wait = self.backoff.next(trouble.retry_after());
        if trouble.is_gone() && self.version.take().is_some() {
            wait = wait.max(up_to(self.server.pace.relist_spread));
        }
        self.outage.goes_on(self.kind.name(), trouble, wait, self.listed_before);
        sleep(wait).await;
    }
}

/// Says when an outage begins and ends, and now and then that it goes on.
#[derive(Debug, Default)]
struct Outage {
    began: Option<Instant>,
    said: Option<Instant>,
}

impl Outage {
    fn goes_on(&mut self, kind: &str, trouble: &Trouble, wait: Duration, known: bool) {
        let began = *self.began.get_or_insert_with(Instant::now);
        // A server forgets and connections end in the best of times.
        let usual = known && began.elapsed() < LASTED;
        let known = if known { "what is known stays in force" } else { "nothing is known yet" };
        if usual || self.said.is_some_and(|said| said.elapsed() < REMIND) {
            tracing::debug!(kind, "{trouble}; {known}, next attempt in {wait:?}");
        } else {
            tracing::warn!(kind, "{trouble}; {known}, next attempt in {wait:?}");
            self.said = Some(Instant::now());
        }
    }

    fn ends(&mut self, kind: &str) {
        if let Some(began) = self.began.take()
            && self.said.take().is_some()
        {
            tracing::info!(kind, "the API server answers again after {:?}", began.elapsed());
        }
    }
}
