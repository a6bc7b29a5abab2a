//! The programs on a network: broadcasters and viewers as they are shipped, on hosts of their own in network
//! namespaces. Which picture a viewer holds is read from the picture itself.
//!
//! Needs no root, and touches no network of this machine. Where namespaces are refused the tests are
//! ignored, each with the reason.

#[path = "../common/mod.rs"]
mod common;

mod air;
mod faults;
mod films;
mod programs;

use std::process::ExitCode;

use common::harness::{Test, main as run};

fn main() -> ExitCode {
    let test = |name, run| Test { name, tools: &[], run };
    // The longest first: two run at a time.
    run(vec![
        test("a_link_that_is_pulled", faults::a_link_that_is_pulled),
        test("a_film_that_is_removed_and_put_back", faults::a_film_that_is_removed_and_put_back),
        test("odd_films", films::odd_films),
        test("films_that_are_none", films::films_that_are_none),
        test("every_viewer_sees_its_station", air::every_viewer_sees_its_station),
        test(
            "a_broadcaster_that_is_killed_and_started_again",
            faults::a_broadcaster_that_is_killed_and_started_again,
        ),
        Test { name: "lost_packets_are_counted", tools: &["nft"], run: faults::lost_packets_are_counted },
        test("rubbish_on_the_group_costs_no_picture", faults::rubbish_on_the_group_costs_no_picture),
        test("two_films_of_different_shape_and_rate", air::two_films_of_different_shape_and_rate),
        test("one_datagram_a_picture", air::one_datagram_a_picture),
        test("datagrams_follow_the_mtu", air::datagrams_follow_the_mtu),
        test("ipv6", air::ipv6),
        test("changing_stations", programs::changing_stations),
        test("the_audience_is_counted", programs::the_audience_is_counted),
        test("signals_end_the_broadcaster", programs::signals_end_the_broadcaster),
        test("a_directory_port_that_is_taken", programs::a_directory_port_that_is_taken),
        test("wrong_usage_and_wrong_lineups", programs::wrong_usage_and_wrong_lineups),
    ])
}
