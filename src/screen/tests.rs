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

const BANNER: Banner<'static> = Banner { number: StationId(2), name: "Nature", programme: ["", ""] };

fn rows(count: u16) -> Vec<Row<'static>> {
    let row = |n| Row { id: StationId(n), name: "Nature", state: "off air".into(), off_air: true };
    (1..=count).map(row).collect()
}

fn list(count: u16, cursor: Option<usize>) -> List<'static> {
    List { rows: rows(count), current: Some(StationId(1)), cursor, search: "" }
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
        assert!(top > half && right > width * 9 / 10, "the banner lies along the bottom");
        let (left, _, _, foot) = seen(ScreenView { typed: Some("12_"), ..bare.clone() });
        assert!(left > middle && foot < half, "the number typed is top right");
        let info = vec![("Name", "Nature".to_owned()), ("Rate", "25.0".to_owned())];
        let (left, top, right, foot) = seen(ScreenView { panel: Panel::Info(info), ..bare.clone() });
        assert!(left < width / 10 && top < height / 10 && right < middle * 5 / 4 && foot < half, "info");
        let (left, top, _, foot) = seen(ScreenView { panel: Panel::Keys, ..bare.clone() });
        assert!(left < width / 10 && top < height / 10 && foot < height, "the keys");
        let (left, top, ..) = seen(ScreenView { paused: true, ..bare.clone() });
        assert!(left > middle && top > half, "the pause sign is bottom right");
        let (left, top, right, _) = seen(ScreenView { message: Some("saved"), ..bare.clone() });
        assert!(top > half && left > width / 4 && right < width * 3 / 4, "the message is at the bottom");
        for count in [0, 3, 60] {
            let (left, ..) = seen(ScreenView { panel: Panel::List(list(count, Some(0))), ..bare.clone() });
            assert!(left >= width * 11 / 20 - width / 20, "the line-up is right, and has at most 45 %");
        }
        let typed = Some("12_");
        let listing = ScreenView { panel: Panel::List(list(60, None)), ..bare.clone() };
        let (without, with) = (
            compose(&listing, width, height),
            compose(&ScreenView { typed, ..listing.clone() }, width, height),
        );
        let (_, _, right, _) = changed(&without, &with).unwrap();
        assert!(right < middle, "beside the line-up the number typed is top left");
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
    let name =
        compose(&ScreenView { banner: Some(Banner { name: "Mmmmmm", ..BANNER }), ..both.clone() }, 640, 368);
    let (_, name_top, ..) = changed(&name, &without).unwrap();
    let (.., message_foot) = changed(&without, &with).unwrap();
    assert!(message_foot < name_top, "{message_foot} {name_top}");
}

#[test]
fn a_lost_picture_is_grey_and_the_banner_is_not() {
    let size = Size { width: 64, height: 48 };
    let picture = DecodedPicture { size, pixels: vec![0xff_8000; 64 * 48] };
    let view =
        ScreenView { picture: Some(&picture), banner: Some(BANNER), lost: true, ..ScreenView::default() };
    let canvas = compose(&view, 640, 480);
    let grey = |pixel: &u32| (pixel & 0xff) == (pixel >> 8 & 0xff) && (pixel & 0xff) == pixel >> 16;
    assert!(canvas.pixels[..640 * 300].iter().all(|pixel| grey(pixel) && *pixel > 0x20_2020));
    assert!(canvas.pixels.contains(&crate::paint::style::ACCENT), "the number has its colour");
}

#[test]
fn at_720_lines_the_line_up_shows_16_rows_and_more() {
    for (width, height, least) in [(1280, 720, 16), (1920, 1080, 16), (640, 360, 12), (300, 200, 6)] {
        let list = list(60, Some(0));
        let rows: std::collections::BTreeSet<usize> = (0..height as i32)
            .filter_map(|y| match list.at((width as i32 * 9 / 10, y), (width, height)) {
                ListPlace::Row(row) => Some(row),
                _ => None,
            })
            .collect();
        assert!(rows.len() >= least && rows.iter().copied().eq(0..rows.len()), "{width}x{height}: {rows:?}");
        assert_eq!(list.at((5, height as i32 / 2), (width, height)), ListPlace::Outside);
    }
}

#[test]
fn the_row_under_the_cursor_has_white_text_on_a_mark() {
    let view = |cursor| ScreenView { panel: Panel::List(list(5, cursor)), ..ScreenView::default() };
    let white = |canvas: &Canvas| canvas.pixels.iter().filter(|&&pixel| pixel == 0xff_ffff).count();
    let (with, without) = (compose(&view(Some(2)), 1280, 720), compose(&view(None), 1280, 720));
    assert_eq!((white(&with) > 50, white(&without)), (true, 0));
}

#[test]
fn the_line_up_scrolls_to_its_cursor() {
    let at = |cursor| {
        compose(&ScreenView { panel: Panel::List(list(30, cursor)), ..ScreenView::default() }, 640, 368)
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
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn no_text_and_no_size_panics(
        narrow in 1usize..400, long in 1usize..2041, portrait: bool,
        text in ".{0,60}", name in "\\PC{0,300}", number in 0u16..=u16::MAX, cursor: Option<usize>, many in 0usize..60,
    ) {
        let (width, height) = if portrait { (narrow, long) } else { (long, narrow) };
        let picture = grey(64, 48);
        let row = |n| Row { id: StationId(n as u16), name: &name, state: text.as_str().into(), off_air: portrait };
        let rows = (0..many).map(row).collect();
        let info: Vec<_> = (0..many).map(|_| ("Label", name.clone())).collect();
        let view = ScreenView {
            mosaic: None,
            picture: Some(&picture).filter(|_| number % 2 == 0),
            lost: portrait,
            banner: Some(Banner { number: StationId(number), name: &name, programme: [&text, &name] }),
            note: Some(&text),
            typed: Some(&text),
            panel: Panel::List(List { rows, current: Some(StationId(3)), cursor, search: &text }),
            message: Some(&name),
            paused: true,
            volume: Some(VolumeBar { percent: number as u8, muted: portrait }),
        };
        prop_assert_eq!(compose(&view, width, height).pixels.len(), width * height);
        let alone = ScreenView { banner: None, picture: None, panel: Panel::Info(info), ..view };
        let _ = compose(&alone, width, height);
    }
}

#[test]
fn a_mosaic_is_in_the_place_of_the_picture_and_the_guide_over_it() {
    let picture = grey(320, 184);
    let tile = |id| Tile {
        id: StationId(id),
        name: "Nature",
        picture: Some((&picture, 1)),
        loss: "",
        level: None,
        alarm: None,
        selected: id == 2,
    };
    let tiles = [tile(1), tile(2), tile(3)];
    let view = ScreenView { mosaic: Some(&tiles), ..ScreenView::default() };
    let plain = compose(&view, 640, 368);
    let at = |canvas: &Canvas, x: usize, y: usize| canvas.pixels[y * 640 + x];
    assert_eq!([at(&plain, 160, 60), at(&plain, 480, 60), at(&plain, 160, 250)], [GREY; 3]);
    assert_eq!(at(&plain, 480, 250), 0, "there is no fourth station");
    // What lies over it is gone when it is closed.
    let mut composer = Composer::new();
    let mut canvas = Canvas::new(640, 368);
    composer.compose(&ScreenView { message: Some("saved"), ..view.clone() }, &mut canvas);
    assert!(changed(&plain, &canvas).is_some());
    composer.compose(&view, &mut canvas);
    assert_eq!(changed(&plain, &canvas), None);

    let cell = |title, begin, end| GuideCell { title, begin, end, is_on: false };
    let row = |id, cells| GuideRow { id: StationId(id), name: "Nature", cells };
    let guide = Guide {
        rows: vec![
            row(1, vec![cell("Sintel", -0.5, Some(0.5)), cell("Ocean", 0.5, Some(2.0))]),
            row(2, vec![cell("Endless", 0.2, None)]),
            row(3, vec![]),
        ],
        cursor: 1,
        at: 0.3,
        now: 0.1,
        marks: vec![(0.1, "14:00".into()), (0.12, "14:01".into()), (0.9, "14:30".into())],
        ..Guide::default()
    };
    let place = |y: i32| guide.place((500, y), (640, 368));
    let rows: Vec<usize> = (0..368).filter_map(place).map(|(row, _)| row).collect();
    assert!(rows.is_sorted() && rows.contains(&0) && rows.contains(&2) && !rows.contains(&3));
    let share = (0..368).find_map(place).unwrap().1;
    assert!((0.6..0.9).contains(&share), "{share}");
    let view = ScreenView { panel: Panel::Guide(guide), ..view };
    let (left, _, right, _) = changed(&plain, &compose(&view, 640, 368)).unwrap();
    assert!(left < 64 && right > 576, "it is as wide as the window");
    for (width, height) in [(64, 48), (160, 96), (300, 1000), (3000, 64)] {
        compose(&view, width, height);
    }
}
