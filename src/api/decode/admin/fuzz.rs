//! The fuzz target of listings: whatever is asked for, with whatever page token, is within all
//! bounds or refused, and a token is what it was made as.

use bolero::TypeGenerator;

use super::*;
use crate::fuzz::{Tally, Text, time};

#[derive(Clone, Debug, TypeGenerator)]
struct Input {
    namespace: Text,
    prefix: Text,
    state: i32,
    page_size: i32,
    token: Token,
}

#[derive(Clone, Debug, TypeGenerator)]
enum Token {
    None,
    Made(Vec<u8>),
    Any(String),
}

#[test]
fn a_listing_is_within_all_bounds_or_a_list_of_faults() {
    static TALLY: Tally = Tally::new();
    bolero::check!().with_type::<Input>().with_test_time(time()).for_each(|input| {
        let mut request = v1::ListRecordsRequest {
            namespace: input.namespace.to_text(),
            key_prefix: input.prefix.to_text(),
            state: input.state % 7,
            page_size: input.page_size,
            page_token: String::new(),
        };
        let plain = list(request.clone());
        match (&input.token, &plain) {
            (Token::None, _) | (Token::Made(_), Err(_)) => {}
            (Token::Made(place), Ok(listing)) => {
                request.page_token = page_token(listing, &Place(place.clone()));
            }
            (Token::Any(text), _) => request.page_token.clone_from(text),
        }
        let listed = list(request);
        TALLY.count(listed.is_ok());
        match (listed, &input.token) {
            (Ok(listing), token) => {
                assert!((1..=1_000).contains(&listing.limit));
                let (from, to) = listing.range();
                assert!(listing.namespace.is_none() || to.is_some() && !from.is_empty());
                match token {
                    Token::Made(place) => assert_eq!(listing.after, Some(Place(place.clone()))),
                    Token::None => assert_eq!(listing.after, None),
                    Token::Any(_) => {}
                }
            }
            (Err(violations), _) => {
                assert!(!violations.is_empty());
                let is_empty = matches!(&input.token, Token::Made(place) if place.is_empty());
                let is_foreign = matches!(&input.token, Token::Any(text) if !text.is_empty());
                assert!(plain.is_err() || is_empty || is_foreign, "{violations:?}");
            }
        }
    });
    TALLY.report("listings");
}
