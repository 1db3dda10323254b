//! One thread of the load: its connections, its callers, and what it measures.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::call::Answered;
use super::link::Link;
use super::load::{Length, Run, histogram};
use super::pace::Pace;
use super::plan::{Caller, Numbers, Outcome, keys_stored};

/// Room for what is received at a time.
const SCRATCH_BYTES: usize = 256 << 10;

/// How often a thread looks whether the run has ended, at least.
const LOOK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// How long answers are awaited once the run has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// The timer among the events; links have their index.
const TIMER: u64 = u64::MAX;

/// What a thread measured.
pub struct Tally {
    /// Of each call with the right answer, in nanoseconds.
    pub latency: Histogram<u64>,
    /// Operations that ended while it was measured.
    pub operations: u64,
    /// New keys that the server acknowledged, from the first moment on.
    pub stored: u64,
    /// Answers that were wrong or never came, from the first moment on, and how often.
    pub faults: BTreeMap<String, u64>,
}

/// A thread.
pub struct Worker {
    run: Arc<Run>,
    links: Vec<Link>,
    /// Those of a link follow each other.
    callers: Vec<Caller>,
    in_flight_each: usize,
    /// Callers that wait until a call is due.
    idle: VecDeque<u32>,
    numbers: Numbers,
    pace: Option<Pace>,
    /// How many calls it may still begin.
    budget: u64,
    unprepared: usize,
    in_flight: usize,
    epoll: OwnedFd,
    tally: Tally,
}

impl Worker {
    /// The thread with this index, of so many.
    pub fn new(run: Arc<Run>, index: usize, threads: usize) -> anyhow::Result<Self> {
        let load = run.load;
        let share = |all: usize| (all + threads - 1 - index) / threads;
        let connections = share(load.connections as usize);
        let in_flight_each = load.in_flight as usize;
        let callers: Vec<_> =
            (0..connections * in_flight_each).map(|_| Caller::new(load.workload)).collect();
        let pace = match load.rate {
            Some(rate) => {
                let part = connections as f64 / f64::from(load.connections);
                Some(Pace::new(f64::from(rate) * part)?)
            }
            None => None,
        };
        let budget = match load.length {
            Length::Time(_) => u64::MAX,
            Length::Calls(calls) => share(usize::try_from(calls)?) as u64,
        };
        let tally =
            Tally { latency: histogram()?, operations: 0, stored: 0, faults: BTreeMap::new() };
        Ok(Self {
            unprepared: callers.iter().filter(|caller| !caller.is_prepared()).count(),
            links: Vec::with_capacity(connections),
            callers,
            in_flight_each,
            idle: VecDeque::new(),
            numbers: Numbers::of(index, threads),
            pace,
            budget,
            in_flight: 0,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            tally,
            run,
        })
    }

    /// Puts its share of the load on the server until the run ends.
    pub fn run(mut self) -> anyhow::Result<Tally> {
        for index in 0..self.links.capacity() {
            let link = Link::open(&*self.run.target)?;
            epoll::add(&self.epoll, &link, data(index), epoll::EventFlags::IN)?;
            self.links.push(link);
        }
        if let Some(pace) = &self.pace {
            epoll::add(&self.epoll, pace, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        }
        let mut now = Instant::now();
        if self.unprepared == 0 {
            self.prepared(now);
        }
        for caller in 0..u32::try_from(self.callers.len())? {
            self.go_on(caller, now)?;
        }
        for index in 0..self.links.len() {
            self.flush(index)?;
        }
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut answered = Vec::new();
        let mut events = Vec::with_capacity(self.links.len().clamp(16, 1_024));
        while !self.is_over(now) {
            self.send_due(now)?;
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&LOOK_INTERVAL)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            now = Instant::now();
            for event in &events {
                let event: &epoll::Event = event;
                if event.data.u64() == TIMER {
                    self.pace.iter_mut().for_each(Pace::clear_timer);
                    continue;
                }
                let index = usize::try_from(event.data.u64())?;
                self.links[index].receive(&mut scratch, &mut answered)?;
                // Once for all that came together: what is read now was sent before.
                now = Instant::now();
                for answered in answered.drain(..) {
                    self.settle(&answered, now)?;
                }
                self.flush(index)?;
                if self.links[index].is_over() {
                    self.reopen(index)?;
                }
            }
        }
        let mut unanswered = self.in_flight as u64;
        while self.has_backlog() {
            self.pace.as_mut().and_then(|pace| pace.due(pace.next_at()));
            unanswered += 1;
        }
        if unanswered > 0 {
            self.fault("no answer came".to_owned(), unanswered);
        }
        Ok(self.tally)
    }

    /// Whether the run has ended and its answers are here, or are awaited no longer.
    fn is_over(&self, now: Instant) -> bool {
        if self.budget == 0 && self.in_flight == 0 {
            return true;
        }
        match self.run.ended_at() {
            Some(_) if self.in_flight == 0 && !self.has_backlog() => true,
            Some(ended_at) => now.saturating_duration_since(ended_at) > PATIENCE,
            None => false,
        }
    }

    /// Whether calls were due before the end and could not be sent yet.
    fn has_backlog(&self) -> bool {
        match (&self.pace, self.run.ended_at()) {
            (Some(pace), Some(ended_at)) => self.unprepared == 0 && pace.next_at() < ended_at,
            _ => false,
        }
    }

    /// Its callers are prepared: the load begins.
    fn prepared(&mut self, now: Instant) {
        if let Some(pace) = &mut self.pace {
            pace.begin(now);
        }
        self.run.one_is_prepared();
    }

    /// A caller makes its next call, unless it has to wait for its time.
    fn go_on(&mut self, caller: u32, now: Instant) -> anyhow::Result<()> {
        let is_prepared = self.callers[caller as usize].is_prepared();
        if is_prepared && self.pace.is_some() {
            self.idle.push_back(caller);
            return Ok(());
        }
        if self.run.ended_at().is_some() {
            return Ok(());
        }
        self.call(caller, now)
    }

    fn call(&mut self, caller: u32, due_at: Instant) -> anyhow::Result<()> {
        let index = caller as usize;
        if self.callers[index].is_prepared() {
            if self.budget == 0 {
                return Ok(());
            }
            self.budget -= 1;
        }
        let call = self.callers[index].next(caller, &mut self.numbers, due_at);
        self.in_flight += 1;
        self.links[index / self.in_flight_each].send(call)
    }

    /// Sends the calls that are due, as far as callers are free, and sets the timer.
    fn send_due(&mut self, now: Instant) -> anyhow::Result<()> {
        let Some(pace) = self.pace.as_mut().filter(|_| self.unprepared == 0) else { return Ok(()) };
        if pace.ticks(now) {
            let until = self.run.ended_at().map_or(now, |ended_at| now.min(ended_at));
            let mut called = Vec::new();
            // The caller that has been idle longest, and so in turn over the connections.
            while let Some(caller) = self.idle.front().copied()
                && let Some(due_at) = self.pace.as_mut().and_then(|pace| pace.due(until))
            {
                self.idle.pop_front();
                self.call(caller, due_at)?;
                called.push(caller as usize / self.in_flight_each);
            }
            called.sort_unstable();
            called.dedup();
            for index in called {
                self.flush(index)?;
            }
        }
        match &mut self.pace {
            Some(pace) if !self.idle.is_empty() => pace.set_timer(now),
            _ => Ok(()),
        }
    }

    fn settle(&mut self, answered: &Answered, now: Instant) -> anyhow::Result<()> {
        let Answered { call, answer } = answered;
        self.in_flight -= 1;
        self.tally.stored += keys_stored(call.step, *answer);
        let caller = &mut self.callers[call.caller as usize];
        let was_prepared = caller.is_prepared();
        let outcome = caller.take(*answer);
        let is_prepared = caller.is_prepared();
        match outcome {
            Outcome::Right(ends_operation) => {
                if was_prepared && self.is_measured(call.due_at, now) {
                    let nanos = now.saturating_duration_since(call.due_at).as_nanos();
                    self.tally.latency.saturating_record(u64::try_from(nanos)?);
                    self.tally.operations += u64::from(ends_operation);
                }
            }
            Outcome::Fault(fault) if !was_prepared => bail!("the preparation failed: {fault}"),
            Outcome::Fault(fault) => self.fault(fault, 1),
        }
        if is_prepared && !was_prepared {
            self.unprepared -= 1;
            if self.unprepared == 0 {
                self.prepared(now);
            }
        }
        self.go_on(call.caller, now)
    }

    /// A closed loop counts what was answered while it was measured, so that its rate is one of
    /// answers. An open one counts what was due then, however late it was answered.
    fn is_measured(&self, due_at: Instant, now: Instant) -> bool {
        let counts_at = if self.pace.is_some() { due_at } else { now };
        self.run.began_at().is_some_and(|began_at| counts_at >= began_at)
            && self.run.ended_at().is_none_or(|ended_at| counts_at < ended_at)
    }

    fn fault(&mut self, fault: String, times: u64) {
        *self.tally.faults.entry(fault).or_default() += times;
    }

    /// Sends what was written to a link, now or once it can be sent.
    fn flush(&mut self, index: usize) -> anyhow::Result<()> {
        let link = &mut self.links[index];
        let waited = link.waits_to_send();
        link.flush()?;
        if link.waits_to_send() != waited {
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, !waited);
            epoll::modify(&self.epoll, &*link, data(index), flags)?;
        }
        Ok(())
    }

    fn reopen(&mut self, index: usize) -> anyhow::Result<()> {
        epoll::delete(&self.epoll, &self.links[index])?;
        self.links[index] = self.links[index].reopened(&*self.run.target)?;
        epoll::add(&self.epoll, &self.links[index], data(index), epoll::EventFlags::IN)?;
        Ok(())
    }
}

fn data(index: usize) -> epoll::EventData {
    epoll::EventData::new_u64(index as u64)
}
