//! The order of the line, its bounds, and the alarm for the next lapse.

use super::*;

const HOUR: Moment = Moment::from_millis(3_600_000);

fn line(max: usize, max_per_key: usize) -> Waiting<&'static str, &'static str> {
    Waiting::new(WaitingBounds { max, max_per_key })
}

fn at(secs: i64) -> Moment {
    Moment::from_millis(secs * 1_000)
}

/// Parks callers for one key in this order, each by its name.
fn park(
    waiting: &mut Waiting<&'static str, &'static str>,
    key: &'static str,
    names: &[&'static str],
) -> Vec<Ticket> {
    let tickets = Tickets(AtomicU64::new(waiting.parked as u64));
    let parked = names.iter().map(|name| {
        let queue = if name.starts_with("look") { Queue::Lookups } else { Queue::Reserves };
        let ticket = tickets.draw();
        waiting.park(&key, queue, ticket, HOUR, name);
        ticket
    });
    parked.collect()
}

/// Serves everybody until one is called `stays`, and returns who was served.
fn serve(
    waiting: &mut Waiting<&'static str, &'static str>,
    key: &'static str,
    stays: &[&str],
    until: Moment,
) -> Vec<&'static str> {
    let mut served = Vec::new();
    waiting.serve(&key, |name| {
        if stays.contains(&name) {
            return Some((name, until));
        }
        served.push(name);
        None
    });
    served
}

#[test]
fn lookups_come_first_and_reservations_in_the_order_of_their_arrival() {
    let mut waiting = line(9, 9);
    park(&mut waiting, "key", &["ann", "look 1", "bob", "look 2"]);
    assert_eq!(serve(&mut waiting, "key", &[], HOUR), ["look 1", "look 2", "ann", "bob"]);
    assert!(!waiting.has(&"key"));
    assert_eq!(waiting.next_lapse(), None);
}

#[test]
fn the_first_that_stays_keeps_its_place_and_so_do_those_behind() {
    let mut waiting = line(9, 9);
    park(&mut waiting, "key", &["ann", "bob", "cleo"]);
    assert_eq!(serve(&mut waiting, "key", &["bob"], at(9)), ["ann"]);
    assert_eq!(waiting.next_lapse(), Some(at(9)), "they wait for another lease");
    assert_eq!(serve(&mut waiting, "key", &[], HOUR), ["bob", "cleo"]);
}

#[test]
fn a_lookup_that_stays_does_not_keep_a_reservation_waiting() {
    let mut waiting = line(9, 9);
    park(&mut waiting, "key", &["look 1", "look 2", "ann"]);
    assert_eq!(serve(&mut waiting, "key", &["look 1"], HOUR), ["ann"]);
    assert_eq!(serve(&mut waiting, "key", &[], HOUR), ["look 1", "look 2"]);
}

#[test]
fn whoever_is_withdrawn_is_not_served_and_makes_room() {
    let mut waiting = line(2, 2);
    let tickets = park(&mut waiting, "key", &["ann", "bob"]);
    assert!(!waiting.has_room(&"key") && !waiting.has_room(&"other"));
    assert_eq!(waiting.withdraw(&"key", tickets[0]), Some("ann"));
    assert_eq!(waiting.withdraw(&"key", tickets[0]), None);
    assert!(waiting.has_room(&"key"));
    assert_eq!(waiting.withdraw(&"other", tickets[1]), None);
    assert_eq!(serve(&mut waiting, "key", &[], HOUR), ["bob"]);
    assert_eq!(waiting.withdraw(&"key", tickets[1]), None);
}

#[test]
fn the_last_that_is_withdrawn_leaves_nothing_behind() {
    let mut waiting = line(2, 2);
    let tickets = park(&mut waiting, "key", &["look"]);
    assert_eq!(waiting.withdraw(&"key", tickets[0]), Some("look"));
    assert!(!waiting.has(&"key"));
    assert_eq!(waiting.due(HOUR), None);
    assert!(waiting.lines.is_empty() && waiting.lapses.is_empty() && waiting.parked == 0);
}

#[test]
fn there_are_so_many_places_for_a_key_and_in_all() {
    let mut waiting = line(3, 2);
    park(&mut waiting, "one", &["ann", "look"]);
    assert!(!waiting.has_room(&"one"));
    assert!(waiting.has_room(&"two"));
    park(&mut waiting, "two", &["bob"]);
    assert!(!waiting.has_room(&"two") && !waiting.has_room(&"three"));
    serve(&mut waiting, "one", &[], HOUR);
    assert!(waiting.has_room(&"one"));
}

#[test]
fn keys_are_due_in_the_order_in_which_their_leases_end() {
    let mut waiting = line(9, 9);
    let tickets = Tickets::default();
    for (key, until) in [("late", at(30)), ("soon", at(10)), ("later", at(40))] {
        waiting.park(&key, Queue::Reserves, tickets.draw(), until, key);
    }
    assert_eq!(waiting.due(Moment::from_millis(9_999)), None);
    assert_eq!(waiting.due(at(10)), Some("soon"));
    assert_eq!(serve(&mut waiting, "soon", &["soon"], at(35)), [""; 0]);
    assert_eq!(waiting.due(at(35)), Some("late"));
    serve(&mut waiting, "late", &[], HOUR);
    assert_eq!(waiting.due(at(35)), Some("soon"));
}

#[test]
fn the_alarm_is_set_when_the_next_lapse_is_another_one() {
    let mut waiting = line(9, 9);
    let set = |waiting: &mut Waiting<_, _>| {
        let mut told = None;
        waiting.set_alarm(at(0), |after| told = Some(after));
        told
    };
    assert_eq!(set(&mut waiting), None, "nobody waits, as before");
    let ticket = park(&mut waiting, "key", &["ann"])[0];
    assert_eq!(set(&mut waiting), Some(Some(Duration::from_secs(3_600))));
    assert_eq!(set(&mut waiting), None, "it is set already");
    serve(&mut waiting, "key", &["ann"], at(5));
    assert_eq!(set(&mut waiting), Some(Some(Duration::from_secs(5))));
    waiting.withdraw(&"key", ticket);
    assert_eq!(set(&mut waiting), Some(None));
}

#[test]
fn an_alarm_that_was_early_is_set_again_but_not_at_once() {
    let mut waiting = line(9, 9);
    park(&mut waiting, "key", &["ann"]);
    let mut told = None;
    waiting.set_alarm_again(HOUR, |after| told = after);
    assert_eq!(told, Some(SOON.to_std()));
}

#[test]
fn everybody_can_be_sent_away() {
    let mut waiting = line(9, 9);
    park(&mut waiting, "one", &["ann", "look"]);
    park(&mut waiting, "two", &["bob"]);
    let mut all = waiting.take_all();
    all.sort_unstable();
    assert_eq!(all, ["ann", "bob", "look"]);
    assert!(!waiting.has(&"one"));
    assert_eq!(waiting.next_lapse(), None);
}
