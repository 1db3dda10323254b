//! The writer: decides a batch under the engine's mutex, and puts it into the log.
//!
//! It owns what has to change in step with the log: the clock, the counter of fencing
//! tokens, and how far ahead of both the stored high-water marks are. It does not sync and
//! does not answer.
//!
//! # Why one batch may be decided while another is written
//!
//! Both take about as long, and one mutex for both would be what bounds the rate. So there are two:
//! the writer's, under which batches are decided, and the log's, under which they are written. A
//! batch that is decided takes the log's before it lets the writer's go: batches are written in
//! the order in which they were decided, and no more than one is on its way while the next is
//! decided, over the tables and over what that one changes ([`super::unwritten`]), and put into the
//! form in which the log takes it. A batch that
//! writes nothing waits for the log as well: its answers may rest on the one before. Where a
//! write fails, the batch behind it fails too.

use std::path::Path;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Weak};
use std::time::Instant;

use tracing::{info, warn};

use super::Core;
use super::batch::{Batch, GraceWindow, Setting, Source};
use super::disk::Disk;
use super::schema::{DiskError, Meta, Prepared, Tables};
use super::sweep::Touched;
use super::sync::{Held, Position};
use super::threads::{MutexGuard, oneshot};
use super::together::Together;
use super::turn::{Pending, Reply, ReplyTo};
use super::unwritten::{Shown, Unwritten};
use crate::clock::{Clock, EngineClock};
use crate::domain::{FencingToken, Moment, Span};
use crate::storage::round::{Parked, Round};
use crate::storage::waiting::Waiting;
use crate::storage::{Condition, EngineError, OpenError, Quotas, StoreOptions};

/// How far the stored clock is ahead of the clock: at most this much is skipped or waited for
/// after a kill, and at most once in this span a batch stores it anew.
const CLOCK_AHEAD: Span = Span::from_secs(1);

/// How many fencing tokens are set aside by one write.
const FENCING_BLOCK: i64 = 10_000;

/// A batch that holds so many commands takes no more; what waits beyond forms the next. The last
/// question that it took may have been one of many commands, which are never divided.
const MAX_BATCH: usize = 1_024;

/// How many restarts are remembered. A window is kept when it is over: the leases that it
/// moved are still on record, for as long as their retention, and what was said of them must
/// not change. After more restarts than this, they end again when they first ended.
const MAX_GRACE_WINDOWS: usize = 1_024;

/// What changes in step with the log.
pub struct Writer {
    pub(super) tables: Arc<Tables>,
    pub(super) clock: EngineClock,
    /// How many records are read together.
    together: Together,
    /// Callers that wait for somebody else's reservation.
    pub(super) waiting: Parked<Vec<u8>, ReplyTo>,
    next_fencing_token: FencingToken,
    /// What is stored, and durable before any answer that rests on it.
    stored_clock: Moment,
    stored_fencing: Option<FencingToken>,
    run: i64,
    grace: Arc<[GraceWindow]>,
    quotas: Arc<Quotas>,
    /// Where the sweeper goes on: everything before it is purged.
    pub(super) swept_to: Vec<u8>,
    /// What the batch before changes, for as long as it is on its way.
    unwritten: Weak<Unwritten>,
    /// While a step of the sweeper reads: what was written since it began.
    pub(super) touched: Option<Touched>,
    pub(super) disk: Disk,
}

impl Writer {
    /// Takes up where the last run ended, and makes durable that it did.
    pub fn recover(
        tables: Arc<Tables>,
        path: &Path,
        clock: Arc<dyn Clock>,
        options: &StoreOptions,
    ) -> Result<Self, OpenError> {
        let failed =
            |cause: &str| OpenError::Unavailable { path: path.to_owned(), cause: cause.to_owned() };
        let found = tables.meta().map_err(|_| OpenError::Damaged {
            path: path.to_owned(),
            cause: "its high-water marks are unreadable".to_owned(),
        })?;
        let high_water = found.clock_high_water.unwrap_or_default();
        let mut clock = EngineClock::starting_at(clock, high_water);
        let up_at = clock.read();
        // While the clock stands still, the mark that it waits for will do: a higher one each
        // time would let a loop of crashes push the clock ever further.
        let stored_clock = if up_at > high_water { up_at.plus(CLOCK_AHEAD) } else { high_water };
        let run = found.run.unwrap_or(0).saturating_add(1);
        let next_fencing_token =
            found.fencing_high_water.map_or(FencingToken::FIRST, FencingToken::next);
        let stored = Meta {
            fencing_high_water: found.fencing_high_water,
            clock_high_water: Some(stored_clock),
            run: Some(run),
            grace: Some(grace_windows(&found, run, up_at, options.restart_grace)),
            ..Meta::default()
        };
        tables
            .write(&[], &stored)
            .and_then(|()| tables.write_format())
            .and_then(|()| tables.sync())
            .map_err(|DiskError| failed("it cannot be written"))?;
        info!(path = %path.display(), first_fencing_token = next_fencing_token.get(), "store opened");
        Ok(Self {
            tables,
            clock,
            together: Together::at_most(options.records_read_together.into()),
            waiting: Waiting::new(options.waiting),
            next_fencing_token,
            stored_clock,
            stored_fencing: found.fencing_high_water,
            run,
            grace: stored.grace.unwrap_or_default(),
            quotas: Arc::new(options.quotas.clone()),
            swept_to: Vec::new(),
            unwritten: Weak::new(),
            touched: None,
            disk: Disk::under(path, options.min_free_disk_bytes, options.flush_bytes()),
        })
    }

    pub(super) fn setting(&mut self) -> Setting {
        let now = self.clock.read();
        Setting {
            now,
            next_fencing_token: self.next_fencing_token,
            run: self.run,
            grace: Arc::clone(&self.grace),
            room: self.disk.look(now),
            quotas: Arc::clone(&self.quotas),
            swept_to: self.swept_to.clone(),
        }
    }

    /// What may not be in the tables yet.
    pub(super) fn unwritten(&self) -> Option<Arc<Unwritten>> {
        let unwritten = self.unwritten.upgrade();
        if unwritten.is_none() {
            // Whoever let it go had written it. What is read from here on is read after that.
            fence(Ordering::Acquire);
        }
        unwritten
    }

    /// Ends `batch`: what it came to has to be written next, with high-water marks ahead of
    /// whatever its answers show. `None`: there is nothing to write.
    pub(super) fn end(&mut self, batch: Batch<'_, impl Source>, now: Moment) -> Option<Ended> {
        self.end_with(batch, now, Meta::default())
    }

    /// The same, together with `meta`.
    fn end_with(
        &mut self,
        batch: Batch<'_, impl Source>,
        now: Moment,
        meta: Meta,
    ) -> Option<Ended> {
        let outcome = batch.finish();
        let mut ahead = meta;
        if now > self.stored_clock {
            ahead.clock_high_water = Some(now.plus(CLOCK_AHEAD));
        }
        let last_token = outcome.next_fencing_token.get() - 1;
        if last_token > self.stored_fencing.map_or(0, FencingToken::get) {
            ahead.fencing_high_water = FencingToken::new(last_token.saturating_add(FENCING_BLOCK));
        }
        if outcome.changes.is_empty() && ahead == Meta::default() {
            return None;
        }
        if let Some(touched) = &mut self.touched {
            touched.note(&outcome.changes);
        }
        // Where the write fails nobody asks for any of this again.
        self.next_fencing_token = outcome.next_fencing_token;
        self.stored_clock = ahead.clock_high_water.unwrap_or(self.stored_clock);
        self.stored_fencing = ahead.fencing_high_water.or(self.stored_fencing);
        let unwritten = Arc::new(Unwritten::of(outcome.changes));
        self.unwritten = Arc::downgrade(&unwritten);
        let prepared = self.tables.prepare(unwritten.in_order(), &ahead);
        Some(Ended { prepared, unwritten })
    }
}

/// What a batch came to, ready to be written: all that can be done while the batch before it is
/// on its way is done.
pub(super) struct Ended {
    prepared: Prepared,
    /// Held until it is written: that is how the writer knows.
    unwritten: Arc<Unwritten>,
}

/// What a batch was filled with other than by questions.
pub(super) struct Filled<T> {
    /// What was made of it.
    pub value: T,
    /// What is written together with it.
    pub meta: Meta,
    /// Which records went.
    pub gone: Vec<Vec<u8>>,
}

impl<T> Filled<T> {
    /// With nothing but this.
    pub fn only(value: T) -> Self {
        Self { value, meta: Meta::default(), gone: Vec::new() }
    }
}

/// What came of a batch that is written, and not synced yet.
pub(super) struct Settled<T> {
    /// What was made of it.
    pub value: T,
    /// What it was decided by.
    pub setting: Setting,
    /// What an answer that rests on it has to wait for.
    pub position: Position,
}

impl Core {
    /// Decides everything in `pending`, writes it, and returns the answers with the position
    /// that they rest on.
    pub(super) fn decide(&self, mut pending: Vec<Pending>) -> (Vec<Reply>, Position) {
        let mut replies = Vec::with_capacity(pending.len());
        let mut position = 0;
        while !pending.is_empty() {
            let mut size = 0;
            let fitting = pending.iter().take_while(|asked| {
                let has_room = size < MAX_BATCH;
                size += if has_room { asked.question.count() } else { 0 };
                has_room
            });
            let rest = pending.split_off(fitting.count());
            // A batch that is refused rests on nothing, but those before it do.
            position = position.max(self.decide_batch(pending, &mut replies));
            self.sync.meters.decided(size);
            pending = rest;
        }
        (replies, position)
    }

    pub(super) fn decide_batch(&self, asked: Vec<Pending>, replies: &mut Vec<Reply>) -> Position {
        let mut writer = match self.writer() {
            Ok(writer) => writer,
            Err(error) => {
                replies.extend(asked.into_iter().map(|it| Reply::refused(it.caller, error)));
                return 0;
            }
        };
        let setting = writer.setting();
        self.show_disk(writer.disk.is_nearly_full());
        let patience = Instant::now() + self.sync.expected();
        let tables = Arc::clone(&writer.tables);
        let unwritten = writer.unwritten();
        let shown = Shown { tables: &tables, unwritten, writing: &self.writing };
        let now = setting.now;
        let mut batch = Batch::new(&shown, setting);
        // Most of what is reserved is not on record, which takes longest to find out one by one.
        let reserves = asked.iter().flat_map(|asked| asked.question.reserves());
        batch.read_ahead(reserves.map(Vec::as_slice), &mut writer.together);
        let first = replies.len();
        let mut round = Round::begin(&mut batch, &mut writer.waiting, replies, now, patience);
        asked.into_iter().for_each(|asked| round.take(asked));
        writer.waiting.set_alarm(now, |after| self.alarm.set(after));
        let ended = writer.end(batch, now);
        self.write(writer, ended).unwrap_or_else(|DiskError| {
            replies.drain(first..).for_each(Reply::fail);
            0
        })
    }

    /// Writes what a batch came to, as the next after the batch before it, and returns the position
    /// that its answers rest on. The next batch may be decided meanwhile. Where it fails the
    /// engine is poisoned.
    pub(super) fn write(
        &self,
        writer: MutexGuard<'_, Writer>,
        ended: Option<Ended>,
    ) -> Result<Position, DiskError> {
        let tables = Arc::clone(&writer.tables);
        // Freed when both mutexes are let go.
        let _unwritten = ended.as_ref().map(|ended| Arc::clone(&ended.unwritten));
        let writing = self.writing.lock();
        drop(writer);
        self.write_next(&tables, writing.is_ok(), ended)
    }

    /// The same, for whoever holds the log's mutex, or found that somebody panicked under it.
    fn write_next(
        &self,
        tables: &Tables,
        is_sound: bool,
        ended: Option<Ended>,
    ) -> Result<Position, DiskError> {
        // What this batch was decided over may not be there.
        if !is_sound || self.sync.refusal() == Some(EngineError::Unavailable) {
            self.sync.poison();
            return Err(DiskError);
        }
        // It may rest on any batch before it.
        let Some(Ended { prepared, unwritten: _held }) = ended else {
            return Ok(self.sync.position());
        };
        match tables.write_prepared(prepared) {
            Ok(()) => Ok(self.sync.wrote()),
            Err(DiskError) => {
                self.sync.poison();
                Err(DiskError)
            }
        }
    }

    /// The writer, with everything that was decided in the tables, and nothing that is decided or
    /// written until both are let go.
    pub(super) fn alone(
        &self,
    ) -> Result<(MutexGuard<'_, Writer>, MutexGuard<'_, ()>), EngineError> {
        let mut writer = self.writer()?;
        let writing = self.writing.lock();
        if writing.is_err() {
            self.sync.poison();
        }
        if self.sync.refusal() == Some(EngineError::Unavailable) {
            return Err(EngineError::Unavailable);
        }
        writer.unwritten = Weak::new();
        Ok((writer, writing.map_err(|_| EngineError::Unavailable)?))
    }

    /// Lets `fill` ask a batch of its own, serves in it whoever waits for a record that went, and
    /// writes what all of that comes to in one step. Where `fill` fails nothing is written and
    /// nobody is served.
    pub(super) fn settle<T>(
        &self,
        fill: impl FnOnce(&mut Batch<'_, Tables>, &Setting) -> Result<Filled<T>, EngineError>,
    ) -> Result<Settled<T>, EngineError> {
        let (mut writer, writing) = self.alone()?;
        let setting = writer.setting();
        self.show_disk(writer.disk.is_nearly_full());
        let tables = Arc::clone(&writer.tables);
        let mut batch = Batch::new(tables.as_ref(), setting.clone());
        let Filled { value, meta, gone } = fill(&mut batch, &setting)?;
        let mut replies = Vec::new();
        if !gone.is_empty() {
            let patience = Instant::now() + self.sync.expected();
            let now = setting.now;
            Round::begin(&mut batch, &mut writer.waiting, &mut replies, now, patience)
                .changed(&gone);
            writer.waiting.set_alarm(now, |after| self.alarm.set(after));
        }
        let ended = writer.end_with(batch, setting.now, meta);
        let written = self.write_next(&tables, true, ended);
        drop((writing, writer));
        let Ok(position) = written else {
            replies.into_iter().for_each(Reply::fail);
            return Err(EngineError::OutcomeUnknown);
        };
        if !replies.is_empty() {
            self.hand_out(replies, position);
        }
        Ok(Settled { value, setting, position })
    }

    /// Refuses what comes, and decides what is queued.
    pub(super) fn close(&self) {
        for lane in self.lanes.iter() {
            lane.close();
            let (replies, position) = self.decide(lane.take());
            self.hand_out(replies, position);
        }
        // Under both mutexes no batch is half-way: it is in the log already, and will be
        // synced, or it is refused. Nobody is parked from then on.
        let writer = self.writer.lock();
        let writing = self.writing.lock();
        self.sync.close();
        drop((writing, writer));
    }

    /// Hands out answers that nobody leads: the sync thread does it itself.
    pub(super) fn hand_out(&self, replies: Vec<Reply>, position: Position) {
        let (leader, _) = oneshot::channel();
        if let Some(durable) = self.sync.hold(Held { position, replies, leader }) {
            durable.replies.into_iter().for_each(Reply::send);
        }
    }

    /// Stores the clock as it is: an orderly end leaves nothing ahead of it, so that leases
    /// that ended before it stay lapsed. Then it saves the next start the work of the log.
    pub(super) fn close_tables(&self) {
        if self.sync.refusal() == Some(EngineError::Unavailable) {
            return;
        }
        let (Ok(mut writer), Ok(_writing)) = (self.writer.lock(), self.writing.lock()) else {
            return;
        };
        let now = writer.clock.read();
        let exact = Meta { clock_high_water: Some(now), ..Meta::default() };
        if writer.tables.write(&[], &exact).and_then(|()| writer.tables.sync()).is_err() {
            warn!("cannot store the clock; the next start takes its high-water mark instead");
            return;
        }
        if let Err(DiskError) = writer.tables.flush() {
            warn!("the next start takes longer: it reads the log again");
        }
    }

    pub(super) fn writer(&self) -> Result<MutexGuard<'_, Writer>, EngineError> {
        let Ok(writer) = self.writer.lock() else {
            // A batch panicked half-way, so what is in memory may disagree with the log.
            self.sync.poison();
            return Err(EngineError::Unavailable);
        };
        match self.sync.refusal() {
            Some(error) => Err(error),
            None => Ok(writer),
        }
    }

    pub(super) fn show_disk(&self, full: bool) {
        let shown = if full { Condition::Full } else { Condition::Serving };
        self.condition.send_if_modified(|condition| {
            if *condition == shown || *condition == Condition::Poisoned {
                return false;
            }
            *condition = shown;
            true
        });
    }
}

/// The windows of earlier runs that can still matter, and the one of this run.
fn grace_windows(found: &Meta, run: i64, up_at: Moment, grace: Span) -> Arc<[GraceWindow]> {
    let Some(down_since) = found.clock_high_water else { return Arc::default() };
    let mut windows: Vec<GraceWindow> =
        found.grace.iter().flat_map(|windows| windows.iter().copied()).collect();
    if windows.len() == MAX_GRACE_WINDOWS {
        windows.remove(0);
    }
    if grace > Span::default() {
        windows.push(GraceWindow { run, from: down_since, until: up_at.plus(grace) });
    }
    windows.into()
}
