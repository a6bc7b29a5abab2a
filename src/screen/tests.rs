//! The composed screen, without a display.

use proptest::prelude::*;

use super::*;

const GREY: u32 = 0x60_6060;

fn grey(width: u16, height: u16) -> DecodedPicture {
    let size = Size { width, height };
    DecodedPicture { size, pixels: vec![GREY; usize::from(width) * usize::from(height)] }
}

fn compose(view: &ScreenView<'_>, width: usize, height: usize) -> Canvas {
    let mut canvas = Canvas::new(width, height);
    canvas.pixels.fill(0xff_00ff);
    Composer::new().compose(view, &mut canvas);
    canvas
}

/// The bounding box of all pixels that differ between two canvases of one size: left, top, right, bottom.
fn changed(one: &Canvas, two: &Canvas) -> Option<(usize, usize, usize, usize)> {
    let differ = |n: &usize| one.pixels[*n] != two.pixels[*n];
    (0..one.pixels.len()).filter(differ).map(|n| (n % one.width, n / one.width)).fold(
        None,
        |found, (x, y)| {
            let (left, top, right, foot) = found.unwrap_or((x, y, x, y));
            Some((left.min(x), top.min(y), right.max(x), foot.max(y)))
        },
    )
}

const BANNER: Banner<'static> = Banner { number: StationId(2), name: "Nature" };

fn rows() -> Vec<Row<'static>> {
    (1..=30).map(|n| Row { id: StationId(n), name: "Nature", state: "on air" }).collect()
}

#[test]
fn each_part_stays_in_its_place() {
    for (width, height) in [(640, 368), (1280, 720), (300, 200), (1920, 1080)] {
        let picture = grey(640, 368);
        let bare = ScreenView { picture: Some(&picture), ..ScreenView::default() };
        let plain = compose(&bare, width, height);
        let seen = |view: ScreenView<'_>| {
            changed(&plain, &compose(&view, width, height)).expect("something is visible")
        };
        let (middle, half) = (width / 2, height / 2);

        let (_, top, right, _) =
            seen(ScreenView { banner: Some(BANNER), note: Some("no signal"), ..bare.clone() });
        assert!(top > half && right < middle + middle / 2, "the banner is bottom left");
        let (left, _, _, foot) = seen(ScreenView { typed: Some("12_"), ..bare.clone() });
        assert!(left > middle && foot < half, "the number typed is top right");
        let info = [("name", "Nature".to_owned()), ("rate", "25.0".to_owned())];
        let (left, top, right, foot) = seen(ScreenView { info: &info, ..bare.clone() });
        assert!(left < width / 10 && top < height / 10 && right < middle * 5 / 4 && foot < half, "info");
        let (left, top, ..) = seen(ScreenView { paused: true, ..bare.clone() });
        assert!(left > middle && top > half, "the pause sign is bottom right");
        let (left, top, right, _) = seen(ScreenView { message: Some("saved"), ..bare.clone() });
        assert!(top > half && left > width / 4 && right < width * 3 / 4, "the message is at the bottom");
        let (left, ..) =
            seen(ScreenView { list: Some(List { rows: rows(), ..List::default() }), ..bare.clone() });
        assert!(left > width / 4, "the line-up is right");
    }
}

#[test]
fn the_display_is_drawn_on_the_bars_too_and_not_scaled_with_the_picture() {
    let small = grey(160, 96);
    let large = grey(1280, 768);
    let view = |picture| ScreenView { picture: Some(picture), banner: Some(BANNER), ..ScreenView::default() };
    assert_eq!(compose(&view(&small), 640, 500).pixels, compose(&view(&large), 640, 500).pixels);
}

#[test]
fn a_message_stands_above_the_banner() {
    let picture = grey(640, 368);
    let both = ScreenView { picture: Some(&picture), banner: Some(BANNER), ..ScreenView::default() };
    let without = compose(&both, 640, 368);
    let text = "a message long enough to lie above the banner";
    let with = compose(&ScreenView { message: Some(text), ..both.clone() }, 640, 368);
    let plain = compose(&ScreenView { picture: Some(&picture), ..ScreenView::default() }, 640, 368);
    let (_, banner_top, ..) = changed(&plain, &without).unwrap();
    let (.., message_foot) = changed(&without, &with).unwrap();
    assert!(message_foot < banner_top, "{message_foot} {banner_top}");
}

#[test]
fn the_line_up_scrolls_to_its_cursor() {
    let at = |cursor| {
        let list = List { rows: rows(), current: Some(StationId(1)), cursor };
        compose(&ScreenView { list: Some(list), ..ScreenView::default() }, 640, 368)
    };
    let (top, bottom, none) = (at(Some(0)), at(Some(29)), at(None));
    assert!(changed(&top, &bottom).is_some() && changed(&top, &none).is_some());
    // A cursor beyond the end does not panic.
    let _ = at(Some(usize::MAX));
}

#[test]
fn without_a_picture_the_note_is_in_the_middle() {
    let black = compose(&ScreenView::default(), 640, 368);
    assert!(black.pixels.iter().all(|&pixel| pixel == 0));
    let waiting =
        compose(&ScreenView { note: Some("no signal — waiting"), ..ScreenView::default() }, 640, 368);
    let (left, top, right, foot) = changed(&black, &waiting).unwrap();
    assert!((300..340).contains(&left.midpoint(right)) && (174..194).contains(&top.midpoint(foot)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_text_and_no_size_panics(
        narrow in 1usize..400, long in 1usize..2041, portrait: bool,
        text in ".{0,60}", name in "\\PC{0,300}", number in 0u16..=u16::MAX, cursor: Option<usize>, many in 0usize..60,
    ) {
        let (width, height) = if portrait { (narrow, long) } else { (long, narrow) };
        let picture = grey(64, 48);
        let rows = (0..many).map(|n| Row { id: StationId(n as u16), name: &name, state: &text }).collect();
        let info: Vec<_> = (0..many).map(|_| (&text[..], name.clone())).collect();
        let view = ScreenView {
            picture: Some(&picture).filter(|_| number % 2 == 0),
            banner: Some(Banner { number: StationId(number), name: &name }),
            note: Some(&text),
            typed: Some(&text),
            info: &info,
            list: Some(List { rows, current: Some(StationId(3)), cursor }),
            message: Some(&name),
            paused: true,
            volume: Some(VolumeBar { percent: number as u8, muted: portrait }),
        };
        prop_assert_eq!(compose(&view, width, height).pixels.len(), width * height);
        let alone = ScreenView { banner: None, picture: None, ..view };
        let _ = compose(&alone, width, height);
    }
}
