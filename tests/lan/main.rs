//! The programs on a network: broadcasters and viewers as they are shipped, on hosts of their own in network namespaces. The
//! number of a picture is read from the picture itself.
//!
//! Needs no root, and touches no network of this machine. Where namespaces are refused the tests are
//! ignored, each with the reason.

#[path = "../common/mod.rs"]
mod common;

mod access;
mod air;
mod announce;
mod camera;
mod conflicts;
mod control;
mod documents;
mod encrypted;
mod faults;
mod films;
mod interfaces;
mod live;
mod mosaic;
mod play;
mod prepare;
mod probes;
mod programs;
mod publish;
mod receivers;
mod reels;
mod reload;
mod service;
mod signatures;
mod sound;
mod streams;

use std::process::ExitCode;

use common::harness::{Test, main as run};

fn main() -> ExitCode {
    let test = |name, run| Test { name, tools: &[], run };
    // The longest first, since several run at a time.
    run(vec![
        Test {
            name: "every_command_line_of_the_documents",
            tools: &["Xvfb", "xdotool", "ffplay"],
            run: documents::every_command_line_of_the_documents,
        },
        test("command_lines_are_found", documents::command_lines_are_found),
        test("the_service_manager_is_told", service::the_service_manager_is_told),
        test("a_link_that_is_pulled", faults::a_link_that_is_pulled),
        Test {
            name: "a_reload_touches_no_station_that_is_the_same",
            tools: &["curl", "python3"],
            run: reload::a_reload_touches_no_station_that_is_the_same,
        },
        Test {
            name: "a_station_obeys_its_operators",
            tools: &["curl"],
            run: control::a_station_obeys_its_operators,
        },
        Test {
            name: "encrypted_stations_are_watched_by_those_who_are_told_the_key",
            tools: &["curl"],
            run: encrypted::encrypted_stations_are_watched_by_those_who_are_told_the_key,
        },
        test(
            "a_viewer_follows_a_station_into_encryption_and_out_of_it",
            encrypted::a_viewer_follows_a_station_into_encryption_and_out_of_it,
        ),
        Test {
            name: "a_station_for_some_is_watched_by_those_and_by_no_others",
            tools: &["curl", "ffmpeg", "openssl"],
            run: access::a_station_for_some_is_watched_by_those_and_by_no_others,
        },
        test(
            "a_viewer_that_requires_signatures_shows_the_signed_station_alone",
            signatures::a_viewer_that_requires_signatures_shows_the_signed_station_alone,
        ),
        Test {
            name: "two_broadcasters_on_one_group",
            tools: &["curl"],
            run: conflicts::two_broadcasters_on_one_group,
        },
        Test {
            name: "two_broadcasters_on_one_machine",
            tools: &["curl"],
            run: conflicts::two_broadcasters_on_one_machine,
        },
        Test {
            name: "two_broadcasters_on_loopback",
            tools: &["curl"],
            run: conflicts::two_broadcasters_on_loopback,
        },
        Test {
            name: "a_film_is_on_air_by_one_command",
            tools: &["ffmpeg", "curl"],
            run: play::a_film_is_on_air_by_one_command,
        },
        test("a_stranger_that_sends_to_the_group", faults::a_stranger_that_sends_to_the_group),
        test("a_film_that_is_removed_and_put_back", faults::a_film_that_is_removed_and_put_back),
        test("an_interface_that_gets_another_address", faults::an_interface_that_gets_another_address),
        Test {
            name: "all_outputs_tell_another_address",
            tools: &["tshark"],
            run: interfaces::all_outputs_tell_another_address,
        },
        test("a_station_follows_the_mtu_down_and_up", interfaces::a_station_follows_the_mtu_down_and_up),
        test(
            "a_station_goes_on_air_when_its_interface_gets_an_address",
            interfaces::a_station_goes_on_air_when_its_interface_gets_an_address,
        ),
        Test {
            name: "a_camera_of_this_machine_and_its_microphone",
            tools: &["cc", "pulseaudio"],
            run: camera::a_camera_of_this_machine_and_its_microphone,
        },
        Test { name: "odd_pictures_of_a_camera", tools: &["cc"], run: camera::odd_pictures_of_a_camera },
        Test {
            name: "our_publisher_sends_a_camera",
            tools: &["cc", "pulseaudio", "Xvfb", "xdotool"],
            run: camera::our_publisher_sends_a_camera,
        },
        test("a_film_that_becomes_a_pipe", faults::a_film_that_becomes_a_pipe),
        Test { name: "odd_live_sources", tools: &["python3"], run: live::odd_live_sources },
        Test {
            name: "a_live_source_that_is_lost_and_comes_back",
            tools: &["python3"],
            run: live::a_live_source_that_is_lost_and_comes_back,
        },
        Test {
            name: "a_live_source_is_passed_on_unchanged",
            tools: &["python3"],
            run: live::a_live_source_is_passed_on_unchanged,
        },
        test("a_station_that_shows_others", mosaic::a_station_that_shows_others),
        test("a_station_of_another_broadcaster", live::a_station_of_another_broadcaster),
        Test {
            name: "cameras_by_rtsp",
            tools: &["gi:GstRtspServer", "gst:openh264enc", "gst:x265enc", "gst:voaacenc"],
            run: live::cameras_by_rtsp,
        },
        test("a_camera_and_its_sound_are_in_step", live::a_camera_and_its_sound_are_in_step),
        test("our_publisher_connects_again", publish::our_publisher_connects_again),
        test("a_name_has_its_number_over_a_restart", publish::a_name_has_its_number_over_a_restart),
        test("a_damaged_reel_is_made_again", reels::a_damaged_reel_is_made_again),
        test("a_recording_that_is_killed", reels::a_recording_that_is_killed),
        test("the_programme_goes_on_over_a_restart", reels::the_programme_goes_on_over_a_restart),
        test("a_film_that_changes_under_its_reel", reels::a_film_that_changes_under_its_reel),
        test("reels_over_the_limit", reels::reels_over_the_limit),
        test("a_full_disk", reels::a_full_disk),
        test("later_passes_air_from_the_reel", reels::later_passes_air_from_the_reel),
        test("one_reel_for_two_stations", reels::one_reel_for_two_stations),
        test("no_folder_for_reels", reels::no_folder_for_reels),
        test("no_reel_where_none_is_wanted", reels::no_reel_where_none_is_wanted),
        Test {
            name: "stations_are_announced_by_sap",
            tools: &["tshark"],
            run: announce::stations_are_announced_by_sap,
        },
        Test {
            name: "the_directory_is_found_by_mdns",
            tools: &["tshark", "bash"],
            run: announce::the_directory_is_found_by_mdns,
        },
        test("several_directories_are_listed", announce::several_directories_are_listed),
        test("an_external_player", announce::an_external_player),
        test("an_interrupted_preparation_goes_on", prepare::an_interrupted_preparation_goes_on),
        test("a_station_is_measured", probes::a_station_is_measured),
        test("a_stream_that_is_not_ours_is_measured", probes::a_stream_that_is_not_ours_is_measured),
        Test { name: "a_capture_is_measured", tools: &["tshark"], run: probes::a_capture_is_measured },
        test("silence_is_reported", probes::silence_is_reported),
        test("odd_films", films::odd_films),
        test("files_that_are_not_films", films::files_that_are_not_films),
        test("every_viewer_sees_its_station", air::every_viewer_sees_its_station),
        test(
            "a_broadcaster_that_is_killed_and_started_again",
            faults::a_broadcaster_that_is_killed_and_started_again,
        ),
        Test {
            name: "a_beep_is_heard_when_its_flash_is_seen",
            tools: &["nft", "ffmpeg"],
            run: sound::a_beep_is_heard_when_its_flash_is_seen,
        },
        test(
            "a_picture_that_stays_does_not_hold_up_the_sound",
            sound::a_picture_that_stays_does_not_hold_up_the_sound,
        ),
        test(
            "a_beep_is_heard_over_tcp_and_as_linear_samples",
            sound::a_beep_is_heard_over_tcp_and_as_linear_samples,
        ),
        Test {
            name: "players_that_report_are_the_audience",
            tools: &["nft", "curl"],
            run: receivers::players_that_report_are_the_audience,
        },
        test(
            "a_group_that_no_directory_lists_is_received",
            streams::a_group_that_no_directory_lists_is_received,
        ),
        Test {
            name: "what_a_description_says_is_received",
            tools: &["curl"],
            run: streams::what_a_description_says_is_received,
        },
        test("a_lost_station_is_told_and_fails_the_run", streams::a_lost_station_is_told_and_fails_the_run),
        Test { name: "lost_packets_are_counted", tools: &["nft"], run: faults::lost_packets_are_counted },
        test("rubbish_on_the_group_costs_no_picture", faults::rubbish_on_the_group_costs_no_picture),
        test("two_films_of_different_shape_and_rate", air::two_films_of_different_shape_and_rate),
        test("one_datagram_a_picture", air::one_datagram_a_picture),
        test("datagrams_follow_the_mtu", air::datagrams_follow_the_mtu),
        test("ipv6", air::ipv6),
        test("changing_stations", programs::changing_stations),
        Test {
            name: "the_example_receives_a_station",
            tools: &["example:receive"],
            run: programs::the_example_receives_a_station,
        },
        test("the_audience_is_counted", programs::the_audience_is_counted),
        test("signals_end_the_broadcaster", programs::signals_end_the_broadcaster),
        test("signals_end_the_viewer", programs::signals_end_the_viewer),
        test("a_directory_port_that_is_taken", programs::a_directory_port_that_is_taken),
        test("wrong_usage_and_wrong_lineups", programs::wrong_usage_and_wrong_lineups),
    ])
}
