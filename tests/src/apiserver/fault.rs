//! Ways of failing.

use std::time::Duration;

use super::{Asked, Shared, lock};

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A page of a list.
    List,
    /// A watch.
    Watch,
    /// One object.
    Get,
    /// A change of one object, or of its status.
    Patch,
    /// A new object, or another in its place.
    Put,
    /// That an object goes.
    Delete,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum What {
    /// The answer is this status.
    Status {
        /// Such as 500.
        code: u16,
        /// Seconds, for the header Retry-After.
        retry_after: Option<u32>,
    },
    /// The answer is 200 and this.
    Body(String),
    /// A watch begins and sends an event of type ERROR with this code.
    ErrorEvent(u16),
    /// The answer breaks off in its middle; that of a watch in the middle of the first line.
    Cut,
    /// The answer begins, and nothing comes.
    Silent,
    /// The answer comes in pieces of a few bytes with this pause before each.
    Slow(Duration),
}

/// Requests that fail, and how.
#[derive(Clone, Debug)]
pub struct Fault {
    what: What,
    verb: Option<Verb>,
    plural: Option<String>,
    further_pages: bool,
    left: usize,
}

impl Fault {
    /// The next request fails so.
    #[must_use]
    pub const fn new(what: What) -> Self {
        Self { what, verb: None, plural: None, further_pages: false, left: 1 }
    }

    /// Only a list does.
    #[must_use]
    pub const fn on_list(mut self) -> Self {
        self.verb = Some(Verb::List);
        self
    }

    /// Only a second or later page of a list does.
    #[must_use]
    pub const fn on_further_page(mut self) -> Self {
        self.further_pages = true;
        self.on_list()
    }

    /// Only a watch does.
    #[must_use]
    pub const fn on_watch(mut self) -> Self {
        self.verb = Some(Verb::Watch);
        self
    }

    /// Only a request of this kind does.
    #[must_use]
    pub const fn on(mut self, verb: Verb) -> Self {
        self.verb = Some(verb);
        self
    }

    /// Only a request for these objects does, by their name in the plural.
    #[must_use]
    pub fn of(mut self, plural: &str) -> Self {
        self.plural = Some(plural.to_owned());
        self
    }

    /// So many requests do.
    #[must_use]
    pub const fn times(mut self, times: usize) -> Self {
        self.left = times;
        self
    }

    /// All requests do, until [`ApiServer::mend`](super::ApiServer::mend).
    #[must_use]
    pub const fn always(self) -> Self {
        self.times(usize::MAX)
    }

    fn meets(&self, asked: &Asked) -> bool {
        self.left > 0
            && self.verb.is_none_or(|verb| verb == asked.verb)
            && self.plural.as_ref().is_none_or(|plural| *plural == asked.plural)
            && (!self.further_pages || asked.parameter("continue").is_some())
    }
}

/// How this request fails, if it does.
pub(super) fn fault_of(shared: &Shared, asked: &Asked) -> Option<What> {
    let mut faults = lock(&shared.faults);
    let fault = faults.iter_mut().find(|fault| fault.meets(asked))?;
    fault.left = if fault.left == usize::MAX { fault.left } else { fault.left - 1 };
    let what = fault.what.clone();
    faults.retain(|fault| fault.left > 0);
    Some(what)
}
