//! The face: Inter, of which the program carries a subset (Latin, Greek, Cyrillic, signs) in two weights; other characters are
//! taken from the system's fonts. cosmic-text shapes text, also from right to left, and swash draws the glyphs.
//!
//! A line of text is shaped and drawn once and then kept as the coverage of its pixels: the window paints its display with
//! every picture.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cosmic_text::fontdb::{Database, Source, Stretch};
use cosmic_text::{
    Attrs, Buffer, Family, FeatureTag, FontFeatures, FontSystem, LayoutGlyph, Metrics, Shaping,
    Style as Slant, SwashCache, SwashContent, SwashImage, Weight, Wrap,
};

use super::{Canvas, Colour, mix};

/// The subsets; `fonts/README.md` says how they were made.
const FONTS: [&[u8]; 2] =
    [include_bytes!("fonts/Inter-Regular.ttf"), include_bytes!("fonts/Inter-SemiBold.ttf")];

/// Their family. The semibold weight is declared as bold, so that the system's bold fonts go with it: few have a semibold.
const FAMILY: &str = "Inter";

/// Height of a line in ems, as fonts for screens are set. Inter's own ascent and descent take 1.21.
const LINE: f32 = 1.25;

/// Where the baseline is in a line, in ems from its upper edge: letters are in its middle.
const BASELINE: f32 = 0.98;

/// Most characters of a line that are shaped. No screen shows more.
const LONGEST: usize = 320;

/// Most bytes of the lines kept. A full line-up with the banner at 3840x2160 takes 3 MB.
const MOST_KEPT: usize = 16 << 20;

/// Weight and height of a line of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Style {
    pub(super) bold: bool,
    /// Height of a line, in pixels.
    pub(super) height: i32,
}

impl Style {
    /// Size of the letters, in pixels an em.
    fn em(self) -> f32 {
        self.height as f32 / LINE
    }

    fn attributes(self) -> Attrs<'static> {
        let weight = if self.bold { Weight::BOLD } else { Weight::NORMAL };
        let mut features = FontFeatures::new();
        // Digits of one width, so that numbers that change do not move what follows.
        features.enable(FeatureTag::new(b"tnum"));
        Attrs::new().family(Family::Name(FAMILY)).weight(weight).font_features(features)
    }
}

/// A shaped line.
pub(super) struct Line {
    /// Its width, in pixels.
    pub(super) width: i32,
    /// Where in the text its glyphs end, in bytes, ascending.
    ends: Vec<usize>,
    glyphs: Vec<LayoutGlyph>,
    style: Style,
    drawn: OnceLock<Drawn>,
}

/// The pixels of a line, placed in relation to its upper left corner.
#[derive(Default)]
struct Drawn {
    left: i32,
    top: i32,
    width: usize,
    height: usize,
    /// How much of each pixel is covered, 0..=255.
    cover: Vec<u8>,
    /// The pixels of coloured glyphs, such as emoji: index in `cover`, colour, coverage.
    coloured: Vec<(u32, Colour, u8)>,
}

impl Line {
    /// Paints the line in a colour; its upper left corner is at `x`, `y`.
    pub(super) fn paint(&self, canvas: &mut Canvas, x: i32, y: i32, colour: Colour) {
        let drawn = self.drawn.get_or_init(|| face().draw(self));
        let (left, top) = (i64::from(x) + i64::from(drawn.left), i64::from(y) + i64::from(drawn.top));
        let columns = visible(left, drawn.width, canvas.width);
        if columns.is_empty() {
            return;
        }
        for row in visible(top, drawn.height, canvas.height) {
            let at = (top + row as i64) as usize * canvas.width + (left + columns.start as i64) as usize;
            let cover = &drawn.cover[row * drawn.width..][columns.clone()];
            for (pixel, &cover) in canvas.pixels[at..][..columns.len()].iter_mut().zip(cover) {
                match cover {
                    0 => {}
                    255 => *pixel = colour,
                    cover => *pixel = mix(*pixel, colour, cover),
                }
            }
        }
        for &(index, colour, cover) in &drawn.coloured {
            let (column, row) = (index as usize % drawn.width, index as usize / drawn.width);
            canvas.blend_pixel((left + column as i64) as i32, (top + row as i64) as i32, colour, cover);
        }
    }
}

/// The indices of `length` places from `from` on that lie in `0..end`.
fn visible(from: i64, length: usize, end: usize) -> std::ops::Range<usize> {
    let place = |at: i64| at.clamp(0, length as i64) as usize;
    place(-from)..place(end as i64 - from)
}

/// The fonts, and the lines shaped with them.
pub(super) struct Face {
    fonts: FontSystem,
    glyphs: SwashCache,
    /// Whether the system's fonts are among `fonts`. Most stations need none of them, and finding them takes time.
    has_system_fonts: bool,
    lines: HashMap<Style, HashMap<Box<str>, Arc<Line>>>,
    /// The beginnings of texts that are too wide, by the width they were cut to.
    cuts: HashMap<(Style, i32), HashMap<Box<str>, Arc<str>>>,
    /// Estimate of the bytes in `lines` and `cuts`.
    kept: usize,
    /// Characters that were looked for in every font in vain, which takes a millisecond for each.
    unknown: HashSet<char>,
}

/// Most unknown characters that are remembered.
const MOST_UNKNOWN: usize = 4000;

/// The one face of the program.
pub(super) fn face() -> MutexGuard<'static, Face> {
    static FACE: OnceLock<Mutex<Face>> = OnceLock::new();
    // A poisoned lock is usable: at worst a line is missing from the cache.
    FACE.get_or_init(|| Mutex::new(Face::new())).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Face {
    fn new() -> Face {
        let mut database = Database::new();
        for font in FONTS {
            database.load_font_source(Source::Binary(Arc::new(font)));
        }
        Face {
            fonts: FontSystem::new_with_locale_and_db(language(), database),
            glyphs: SwashCache::new(),
            has_system_fonts: false,
            lines: HashMap::new(),
            cuts: HashMap::new(),
            kept: 0,
            unknown: HashSet::new(),
        }
    }

    /// Notes that so many bytes more are kept; if they are too many, everything is dropped.
    fn keep(&mut self, bytes: usize) {
        self.kept += bytes;
        if self.kept > MOST_KEPT {
            self.lines.clear();
            self.cuts.clear();
            self.kept = bytes;
        }
    }

    /// A line of text, from the cache if it is there.
    pub(super) fn line(&mut self, style: Style, text: &str) -> Arc<Line> {
        if let Some(line) = self.lines.get(&style).and_then(|lines| lines.get(text)) {
            return Arc::clone(line);
        }
        let line = Arc::new(self.shape(style, text));
        // Once it is drawn: a byte for each pixel.
        self.keep(line.width as usize * style.height as usize + 128 * line.glyphs.len() + 64 + text.len());
        self.lines.entry(style).or_default().insert(text.into(), Arc::clone(&line));
        line
    }

    /// The text, or if it is wider than `width` pixels, its beginning with an ellipsis. Empty if no character fits.
    pub(super) fn cut(&mut self, style: Style, text: &str, width: i32) -> Arc<str> {
        let line = self.line(style, text);
        if line.width <= width {
            return text.into();
        }
        if let Some(cut) = self.cuts.get(&(style, width)).and_then(|cuts| cuts.get(text)) {
            return Arc::clone(cut);
        }
        let shaped = self.plain(text);
        let with_ellipsis = |end: usize| {
            shaped
                .get(..end)
                .map(|kept| kept.trim_end_matches([' ', '.']).to_owned() + "…")
                .unwrap_or_default()
        };
        // The longest beginning that fits with its ellipsis, by bisection over the ends of the glyphs.
        let mut fits = |end: usize| self.shape(style, &with_ellipsis(end)).width <= width;
        let longest = line.ends.partition_point(|&end| fits(end));
        let end = longest.checked_sub(1).map(|at| line.ends[at]).or_else(|| fits(0).then_some(0));
        let cut: Arc<str> = end.map_or_else(String::new, with_ellipsis).into();
        self.keep(text.len() + cut.len() + 128);
        self.cuts.entry((style, width)).or_default().insert(text.into(), Arc::clone(&cut));
        cut
    }

    /// A line of text that need not be kept.
    fn shape(&mut self, style: Style, text: &str) -> Line {
        let buffer = self.lay_out(style, text, None).0;
        let glyphs: Vec<LayoutGlyph> = buffer.layout_runs().flat_map(|run| run.glyphs.to_vec()).collect();
        let width = buffer.layout_runs().map(|run| run.line_w).fold(0.0, f32::max).ceil();
        let mut ends: Vec<usize> = glyphs.iter().map(|glyph| glyph.end).collect();
        ends.sort_unstable();
        ends.dedup();
        Line { width: width.clamp(0.0, 1e6) as i32, ends, glyphs, style, drawn: OnceLock::new() }
    }

    /// The text in lines of at most `width` pixels, broken where its script allows.
    pub(super) fn wrap(&mut self, style: Style, text: &str, width: i32) -> Vec<String> {
        let (buffer, text) = self.lay_out(style, text, Some(width as f32));
        let line = |glyphs: &[LayoutGlyph]| {
            let start = glyphs.iter().map(|glyph| glyph.start).min()?;
            let end = glyphs.iter().map(|glyph| glyph.end).max()?;
            text.get(start..end).map(|line| line.trim().to_owned())
        };
        buffer.layout_runs().filter_map(|run| line(run.glyphs)).filter(|line| !line.is_empty()).collect()
    }

    /// Shapes a text. Also returns it as it was shaped, to which the places of the glyphs refer.
    fn lay_out(&mut self, style: Style, text: &str, width: Option<f32>) -> (Buffer, String) {
        let mut shaped = self.plain(text);
        let mut buffer = self.try_to_lay_out(style, &shaped, width);
        if !self.has_system_fonts && !missing(&buffer, &shaped).is_empty() {
            self.has_system_fonts = true;
            load_system_fonts(self.fonts.db_mut());
            buffer = self.try_to_lay_out(style, &shaped, width);
        }
        let missing = missing(&buffer, &shaped);
        if !missing.is_empty() {
            if self.unknown.len() > MOST_UNKNOWN {
                self.unknown.clear();
            }
            self.unknown.extend(missing);
            shaped = self.plain(text);
            buffer = self.try_to_lay_out(style, &shaped, width);
        }
        (buffer, shaped)
    }

    /// The text with a space for each control character, of a length that can be shaped. For private characters, for which
    /// every font of the system would be searched, and for those that no font has, the replacement character is shown.
    fn plain(&self, text: &str) -> String {
        let plain = |c: char| match c {
            c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' => ' ',
            c if is_private(c) || self.unknown.contains(&c) => char::REPLACEMENT_CHARACTER,
            c => c,
        };
        text.chars().take(LONGEST).map(plain).collect()
    }

    fn try_to_lay_out(&mut self, style: Style, text: &str, width: Option<f32>) -> Buffer {
        let mut buffer = Buffer::new(&mut self.fonts, Metrics::new(style.em(), style.height as f32));
        buffer.set_wrap(if width.is_some() { Wrap::WordOrGlyph } else { Wrap::None });
        buffer.set_size(width, None);
        buffer.set_text(text, &style.attributes(), Shaping::Advanced, None);
        buffer.shape_until_scroll(&mut self.fonts, false);
        buffer
    }

    fn draw(&mut self, line: &Line) -> Drawn {
        let baseline = (line.style.em() * BASELINE).round();
        let images: Vec<(i32, i32, SwashImage)> = line
            .glyphs
            .iter()
            .filter_map(|glyph| {
                let placed = glyph.physical((0.0, baseline), 1.0);
                let image = self.glyphs.get_image_uncached(&mut self.fonts, placed.cache_key)?;
                let place = image.placement;
                (place.width > 0).then_some((placed.x + place.left, placed.y - place.top, image))
            })
            .collect();
        let left = images.iter().map(|(x, ..)| *x).min().unwrap_or(0);
        let top = images.iter().map(|(_, y, _)| *y).min().unwrap_or(0);
        let right = images.iter().map(|(x, _, image)| x + image.placement.width as i32).max().unwrap_or(0);
        let foot = images.iter().map(|(_, y, image)| y + image.placement.height as i32).max().unwrap_or(0);
        let (width, height) = ((right - left) as usize, (foot - top) as usize);
        let mut drawn =
            Drawn { left, top, width, height, cover: vec![0; width * height], coloured: Vec::new() };
        for (x, y, image) in images {
            drawn.add((x - left) as usize, (y - top) as usize, &image);
        }
        drawn
    }
}

impl Drawn {
    /// Adds a glyph; its upper left corner is at `x`, `y`.
    fn add(&mut self, x: usize, y: usize, image: &SwashImage) {
        let (width, height) = (image.placement.width as usize, image.placement.height as usize);
        for (n, at) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column))).enumerate() {
            let index = (y + at.0) * self.width + x + at.1;
            match image.content {
                SwashContent::Mask => {
                    // Glyphs overlap where letters of a script are joined.
                    self.cover[index] = self.cover[index].saturating_add(image.data[n]);
                }
                SwashContent::Color | SwashContent::SubpixelMask => {
                    let Some(&[r, g, b, alpha]) = image.data.get(4 * n..4 * n + 4) else { return };
                    if alpha > 0 {
                        self.coloured.push((index as u32, u32::from_be_bytes([0, r, g, b]), alpha));
                    }
                }
            }
        }
    }
}

/// Adds the system's fonts: of each family the upright regular and bold ones. For a character that no font has, every one of them
/// is searched; Debian's fonts-noto-core has 300 faces, of which 150 remain.
fn load_system_fonts(database: &mut Database) {
    database.load_system_fonts();
    let wanted = [Weight::NORMAL, Weight::BOLD];
    let superfluous = database.faces().filter(|face| {
        face.style != Slant::Normal || face.stretch != Stretch::Normal || !wanted.contains(&face.weight)
    });
    for face in superfluous.map(|face| face.id).collect::<Vec<_>>() {
        database.remove_face(face);
    }
}

/// The characters that are shown as boxes. A character that is a part of a cluster is not: another part may be missing.
fn missing(buffer: &Buffer, shaped: &str) -> Vec<char> {
    let boxes = buffer.layout_runs().flat_map(|run| run.glyphs).filter(|glyph| glyph.glyph_id == 0);
    let alone = |text: &str| {
        let mut chars = text.chars();
        chars.next().filter(|_| chars.next().is_none())
    };
    let chars = boxes.filter_map(|glyph| alone(shaped.get(glyph.start..glyph.end)?));
    chars.filter(|c| *c != char::REPLACEMENT_CHARACTER).collect()
}

fn is_private(c: char) -> bool {
    matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{e01f0}'..='\u{10ffff}') || u32::from(c) & 0xfffe == 0xfffe
}

/// The user's language, which chooses among the shapes of Han characters. From Japan's and Korea's locales only the language is
/// kept, since cosmic-text knows these without a country.
fn language() -> String {
    let mut names = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(|name| std::env::var(name).ok());
    let locale = names.find(|locale| !locale.is_empty()).unwrap_or_default();
    let locale = locale.split(['.', '@']).next().unwrap_or_default().replace('_', "-");
    match locale.split('-').next() {
        Some(language @ ("ja" | "ko")) => language.to_owned(),
        _ if locale.is_empty() || locale == "C" || locale == "POSIX" => "en-US".to_owned(),
        _ => locale,
    }
}
