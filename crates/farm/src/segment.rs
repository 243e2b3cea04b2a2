//! A score cut into pieces that can be rendered side by side and joined to the very samples of the whole.
//!
//! What must hold for that:
//! - Cuts lie on the boundaries of control blocks, and a piece's times are those of the whole less a whole number of
//!   blocks: every command then comes in the same block at the same sample.
//! - A piece begins `overlap` before the part that is kept of it. What was said earlier (definitions, buffers,
//!   groups, buses, and the nodes of the definitions that live on) is said at its beginning, in its order. Notes
//!   that began earlier are left out: the patch promises that nothing is left of them.
//! - The promise is held against the score: a note that is still spoken to in the kept part breaks it.
//!
//! What the score cannot tell, the patch must: random numbers (the server seeds them by the clock of the wall),
//! phases of what lives on, echoes without end. Rendering it both ways and comparing shows those.

use std::collections::{BTreeMap, BTreeSet};

use crate::osc::{self, Arg, Message};
use crate::promise::Segments;
use crate::score::Event;
use crate::{Clock, FarmError, Score};

/// A piece of a score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// What the server is given.
    pub score: Score,
    /// The first block that is kept, in the whole.
    pub first: u64,
    /// Blocks that are rendered before it, and dropped.
    pub dropped: u64,
    /// Blocks that are kept.
    pub kept: u64,
}

/// The score in one piece.
#[must_use]
pub fn whole(score: &Score, clock: Clock) -> Segment {
    Segment { score: score.clone(), first: 0, dropped: 0, kept: score.blocks(clock) }
}

/// Cuts a score.
///
/// # Errors
/// [`FarmError::Score`] when the score itself shows that the promise does not hold.
pub fn cut(
    name: &str,
    score: &Score,
    clock: Clock,
    segments: &Segments,
) -> Result<Vec<Segment>, FarmError> {
    let blocks = score.blocks(clock);
    let length = clock.blocks_in(segments.length).max(1);
    let overlap = clock.blocks_in(segments.overlap);
    let mut pieces = Vec::new();
    let mut first = 0;
    while first < blocks {
        let end = first + length;
        // A rest of less than half a segment is no segment of its own.
        let end = if blocks.saturating_sub(end) < length.div_ceil(2) { blocks } else { end };
        let begin = first.saturating_sub(overlap);
        let span = Piece { begin, first, end };
        let score = piece(name, score, clock, &segments.keep, &span)?;
        pieces.push(Segment { score, first, dropped: first - begin, kept: end - first });
        first = end;
    }
    Ok(pieces)
}

/// In blocks of the whole.
struct Piece {
    begin: u64,
    first: u64,
    end: u64,
}

fn piece(
    name: &str,
    score: &Score,
    clock: Clock,
    keep: &BTreeSet<String>,
    piece: &Piece,
) -> Result<Score, FarmError> {
    let shift = piece.begin * clock.block_time();
    let mut past = Past { keep, left_out: BTreeMap::new() };
    let mut events = Vec::new();
    for event in &score.events {
        let block = clock.block_of(event.time);
        if block >= piece.end {
            break;
        }
        // Every piece of a score is read the same way, so that all of them refuse the same score.
        let when = match () {
            () if block < piece.begin => When::Before,
            () if block < piece.first => When::Overlap,
            () => When::Kept,
        };
        let wrong = |what: String| FarmError::Score {
            score: name.to_owned(),
            what: format!("at {:.3} s: {what}", seconds(event.time)),
        };
        let elements = past.bundle(event, when).map_err(wrong)?;
        let time = event.time.saturating_sub(shift);
        let time = if when == When::Before { 0 } else { time };
        if when == When::Before && elements.is_empty() {
            continue;
        }
        let bytes = osc::bundle(time, elements.iter().map(Vec::as_slice));
        events.push(Event { time, bytes });
    }
    // The server renders up to the block of the last bundle; one without content ends the piece.
    let end = (piece.end - piece.begin) * clock.block_time();
    events.push(Event { time: end, bytes: osc::bundle(end, []) });
    Ok(Score { events })
}

#[allow(clippy::cast_precision_loss)]
fn seconds(time: u64) -> f64 {
    time as f64 / 4_294_967_296.0
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before the piece begins.
    Before,
    /// In what is rendered and dropped.
    Overlap,
    /// In what is kept.
    Kept,
}

/// What the past of a piece leaves out, and so what must not be spoken to.
struct Past<'a> {
    keep: &'a BTreeSet<String>,
    /// Notes by their node's number, and when they began.
    left_out: BTreeMap<i32, u64>,
}

/// How a command names nodes.
enum Names {
    /// All its arguments are nodes.
    All,
    /// The first is.
    First,
    /// Every second one is, from the first on; with what stands after each.
    FirstOfTwo,
    /// Both of each two.
    Pairs,
    /// None of them.
    None,
}

fn names(address: &str) -> Names {
    match address {
        "/n_free" | "/s_noid" | "/n_query" | "/n_trace" => Names::All,
        "/n_set" | "/n_setn" | "/n_fill" | "/n_map" | "/n_mapn" | "/n_mapa" | "/n_mapan"
        | "/s_get" | "/s_getn" | "/u_cmd" | "/n_cmd" => Names::First,
        "/n_run" => Names::FirstOfTwo,
        "/n_before" | "/n_after" | "/g_head" | "/g_tail" => Names::Pairs,
        _ => Names::None,
    }
}

impl Past<'_> {
    fn bundle(&mut self, event: &Event, when: When) -> Result<Vec<Vec<u8>>, String> {
        let (_, elements) = osc::unbundle(&event.bytes).map_err(|error| error.to_string())?;
        let mut kept = Vec::new();
        for element in elements {
            if element.starts_with(osc::BUNDLE) {
                return Err("a bundle in a bundle: such a score is not cut".to_owned());
            }
            let message = Message::read(element).map_err(|error| format!("a message: {error}"))?;
            if let Some(message) = self.message(&message, event.time, when)? {
                // What is not changed stays as it was.
                kept.push(message.map_or_else(|| element.to_vec(), |changed| changed.bytes()));
            }
        }
        Ok(kept)
    }

    /// None: left out. `Some(None)`: as it is. Otherwise changed.
    fn message(
        &mut self,
        message: &Message,
        time: u64,
        when: When,
    ) -> Result<Option<Option<Message>>, String> {
        let address = message.address.as_str();
        if address == "/b_write" {
            return Err(
                "/b_write: each segment would write the file; such a score is not cut".to_owned()
            );
        }
        if when == When::Before {
            makes_no_node(message)?;
        }
        match address {
            "/s_new" | "/s_newargs" => self.note(message, time, when),
            "/g_new" | "/p_new" => {
                for index in (0..message.args.len()).step_by(3) {
                    self.beside(message.int(index + 2), address)?;
                    if let Some(node) = message.int(index) {
                        self.left_out.remove(&node);
                    }
                }
                Ok(Some(None))
            }
            "/n_order" => {
                self.beside(message.int(1), address)?;
                let (head, nodes) = message.args.split_at(message.args.len().min(2));
                self.only(message, head, nodes, 1, time, when)
            }
            _ => match names(address) {
                Names::None => Ok(Some(None)),
                Names::First => {
                    let gone = self.is_left_out(message.int(0), address, time, when)?;
                    Ok(if gone { None } else { Some(None) })
                }
                Names::All => {
                    let kept = self.only(message, &[], &message.args, 1, time, when)?;
                    if address == "/n_free" {
                        for index in 0..message.args.len() {
                            message.int(index).map(|node| self.left_out.remove(&node));
                        }
                    }
                    Ok(kept)
                }
                Names::FirstOfTwo | Names::Pairs => {
                    self.only(message, &[], &message.args, 2, time, when)
                }
            },
        }
    }

    fn note(
        &mut self,
        message: &Message,
        time: u64,
        when: When,
    ) -> Result<Option<Option<Message>>, String> {
        let lives_on = message.text(0).is_some_and(|name| self.keep.contains(name));
        let node = message.int(1).filter(|node| *node >= 0);
        if when == When::Before && !lives_on {
            if let Some(node) = node {
                self.left_out.insert(node, time);
            }
            return Ok(None);
        }
        self.beside(message.int(3), &message.address)?;
        if let Some(node) = node {
            self.left_out.remove(&node);
        }
        Ok(Some(None))
    }

    /// A node cannot be put beside one that is left out.
    fn beside(&self, target: Option<i32>, address: &str) -> Result<(), String> {
        let Some(began) = target.and_then(|target| self.left_out.get(&target)) else {
            return Ok(());
        };
        let (target, began) = (target.unwrap_or_default(), seconds(*began));
        Err(format!(
            "{address} puts a node beside the note {target} of {began:.3} s: name its definition in keep, or put the node into a group"
        ))
    }

    fn is_left_out(
        &self,
        node: Option<i32>,
        address: &str,
        time: u64,
        when: When,
    ) -> Result<bool, String> {
        let Some((node, began)) = node.and_then(|node| Some((node, *self.left_out.get(&node)?)))
        else {
            return Ok(false);
        };
        if when == When::Kept {
            let (began, after) = (seconds(began), seconds(time - began));
            return Err(format!(
                "{address} still speaks to the note {node} of {began:.3} s, {after:.3} s later: raise overlap, or name its definition in keep"
            ));
        }
        Ok(true)
    }

    /// The message with only those of its arguments whose nodes are there; `width` stand together.
    fn only(
        &self,
        message: &Message,
        head: &[Arg],
        args: &[Arg],
        width: usize,
        time: u64,
        when: When,
    ) -> Result<Option<Option<Message>>, String> {
        let both = matches!(names(&message.address), Names::Pairs);
        let mut kept = head.to_vec();
        for (index, group) in args.chunks(width).enumerate() {
            let at = head.len() + index * width;
            let mut gone = self.is_left_out(message.int(at), &message.address, time, when)?;
            if both {
                gone |= self.is_left_out(message.int(at + 1), &message.address, time, when)?;
            }
            if !gone {
                kept.extend(group.iter().cloned());
            }
        }
        if kept.len() == message.args.len() {
            return Ok(Some(None));
        }
        let some = kept.len() > head.len();
        Ok(some.then(|| Some(Message::new(&message.address, kept))))
    }
}

/// A command of the past that would make a node when it is done cannot be said again: the node would be a new note.
fn makes_no_node(message: &Message) -> Result<(), String> {
    for arg in &message.args {
        let Arg::Blob(blob) = arg else { continue };
        if blob.starts_with(b"SCgf") || blob.is_empty() {
            continue;
        }
        let inner = osc::unbundle(blob).map_or_else(|_| vec![blob.as_slice()], |(_, inner)| inner);
        if inner.iter().any(|message| message.starts_with(b"/s_new")) {
            return Err(format!(
                "{} makes a node when it is done: such a score is not cut",
                message.address
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use archibald_machine::units::{Frames, Hertz};
    use proptest::prelude::*;

    use super::*;

    const CLOCK: Clock = Clock { rate: Hertz(48_000), block: Frames(64) };

    fn words(message: &str) -> Vec<u8> {
        let mut words = message.split(' ');
        let address = words.next().unwrap();
        let arg = |word: &str| word.parse().map_or_else(|_| Arg::Text(word.to_owned()), Arg::Int);
        Message::new(address, words.map(arg).collect()).bytes()
    }

    fn score(events: &[(f64, &[&str])]) -> Score {
        let event = |(seconds, messages): &(f64, &[&str])| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let time = (seconds * 4_294_967_296.0) as u64;
            let messages: Vec<Vec<u8>> = messages.iter().map(|message| words(message)).collect();
            Event { time, bytes: osc::bundle(time, messages.iter().map(Vec::as_slice)) }
        };
        Score { events: events.iter().map(event).collect() }
    }

    fn told(score: &Score) -> Vec<(f64, Vec<String>)> {
        let event = |event: &Event| {
            let (_, elements) = osc::unbundle(&event.bytes).unwrap();
            let message = |bytes: &&[u8]| {
                let message = Message::read(bytes).unwrap();
                let word = |arg: &Arg| match arg {
                    Arg::Int(number) => number.to_string(),
                    Arg::Text(text) => text.clone(),
                    other => panic!("{other:?}"),
                };
                let words =
                    std::iter::once(message.address.clone()).chain(message.args.iter().map(word));
                words.collect::<Vec<_>>().join(" ")
            };
            (seconds(event.time), elements.iter().map(message).collect())
        };
        score.events.iter().map(event).collect()
    }

    fn segments(keep: &[&str]) -> Segments {
        let keep = keep.iter().map(|name| (*name).to_owned()).collect();
        Segments { length: Duration::from_secs(10), overlap: Duration::from_secs(2), keep }
    }

    const LONG: &[(f64, &[&str])] = &[
        (0.0, &["/g_new 1 0 0", "/b_alloc 0 1024 1", "/s_new room 900 1 1 in 16"]),
        (1.0, &["/s_new ping 1000 0 1", "/c_set 3 7"]),
        (2.0, &["/n_set 1000 gate 0", "/n_set 900 mix 1"]),
        (9.0, &["/s_new ping 1001 0 1"]),
        (10.5, &["/n_free 1000 1001 900", "/s_new ping 1000 0 1"]),
        (19.0, &["/n_set 1000 gate 0"]),
        (30.0, &["/c_set 3 8"]),
    ];

    #[test]
    fn the_past_is_said_again_but_for_its_notes() {
        let pieces = cut("a", &score(LONG), CLOCK, &segments(&["room"])).unwrap_err();
        // A note of 10.5 s that is let go at 19 s lasts longer than the overlap, but both lie in one piece; the
        // one of 1 s is freed in the second, which is longer than the overlap after it.
        assert!(
            pieces.to_string().contains(
                "at 10.500 s: /n_free still speaks to the note 1000 of 1.000 s, 9.500 s later"
            ),
            "{pieces}"
        );
        let mut events = LONG.to_vec();
        events[4] = (10.5, &["/n_free 1001", "/s_new ping 1000 0 1"]);
        let pieces = cut("a", &score(&events), CLOCK, &segments(&["room"])).unwrap();
        let shape: Vec<_> = pieces.iter().map(|p| (p.first, p.dropped, p.kept)).collect();
        assert_eq!(shape, [(0, 0, 7500), (7500, 1500, 7500), (15000, 1500, 7501)]);
        let second = told(&pieces[1].score);
        let said: Vec<&str> =
            second.iter().flat_map(|(_, said)| said).map(String::as_str).collect();
        assert_eq!(
            said,
            [
                "/g_new 1 0 0",
                "/b_alloc 0 1024 1",
                "/s_new room 900 1 1 in 16",
                "/c_set 3 7",
                "/n_set 900 mix 1",
                "/s_new ping 1001 0 1",
                "/n_free 1001",
                "/s_new ping 1000 0 1",
                "/n_set 1000 gate 0"
            ]
        );
        assert_eq!(second[2].0, 0.0);
        assert!((second[3].0 - 1.0).abs() < 1e-5, "{}", second[3].0);
        // The third begins at 18 s: the note of 10.5 s is left out, and so is what is said to it before 20 s.
        let third = told(&pieces[2].score);
        assert_eq!(third.last().unwrap().1, Vec::<String>::new());
        assert!(
            third.iter().all(|(_, said)| said.iter().all(|said| !said.contains("1000"))),
            "{third:?}"
        );
    }

    #[test]
    fn what_cannot_be_said_again_is_refused() {
        let refused = |at: &[&str]| {
            let events =
                [(0.0, &["/s_new ping 1000 0 0"][..]), (10.5, at), (21.0, &["/c_set 0 0"])];
            cut("a.osc", &score(&events), CLOCK, &segments(&[])).unwrap_err().to_string()
        };
        assert!(refused(&["/b_write 0 a.wav"]).contains("not cut"));
        assert!(refused(&["/s_new ping 1001 2 1000"]).contains("beside the note 1000"));
        assert!(refused(&["/n_before 1001 1000"]).contains("still speaks"));
        assert!(refused(&["/n_run 1000 0"]).contains("still speaks"));
        let alloc =
            Message::new("/b_alloc", vec![Arg::Int(0), Arg::Blob(words("/s_new ping 1 0 0"))]);
        let bytes = osc::bundle(0, [alloc.bytes().as_slice()]);
        let mut long = score(&[(0.0, &[]), (21.0, &["/c_set 0 0"])]);
        long.events[0].bytes = bytes;
        assert!(
            cut("", &long, CLOCK, &segments(&[])).unwrap_err().to_string().contains("makes a node")
        );
    }

    proptest! {
        /// Each command is carried out in the same block, at the same distance from its beginning.
        #[test]
        fn the_pieces_cover_every_block_once(
            mut times in prop::collection::vec(0.0f64..60.0, 1..30), length in 1u64..20_000, overlap in 0u64..9_000,
        ) {
            times.sort_by(f64::total_cmp);
            let events: Vec<(f64, &[&str])> = times.iter().map(|at| (*at, &["/s_new ping -1 0 0"][..])).collect();
            let score = score(&events);
            let segments = Segments {
                length: Duration::from_millis(length),
                overlap: Duration::from_millis(overlap),
                keep: BTreeSet::new(),
            };
            let pieces = cut("", &score, CLOCK, &segments).unwrap();
            let mut next = 0;
            let mut played = 0;
            for piece in &pieces {
                prop_assert_eq!(piece.first, next);
                next += piece.kept;
                prop_assert_eq!(piece.score.blocks(CLOCK), piece.dropped + piece.kept);
                for event in &piece.score.events[..piece.score.events.len() - 1] {
                    let block = CLOCK.block_of(event.time);
                    let whole = event.time + (piece.first - piece.dropped) * CLOCK.block_time();
                    prop_assert!(score.events.iter().any(|event| event.time == whole));
                    played += usize::from(block >= piece.dropped);
                }
            }
            prop_assert_eq!(next, score.blocks(CLOCK));
            prop_assert_eq!(played, times.len());
        }
    }
}
