//! How a film's pictures are turned: the display matrix in words and as a filter of libavfilter.

/// The display matrix of a film whose pictures are shown as they are coded.
const UPRIGHT: [i32; 9] = [1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30];

/// The turn that a film's display matrix asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The filter that turns a picture, if any.
    pub(super) filter: Option<String>,
    /// Whether width and height are swapped.
    pub(super) swaps: bool,
    words: String,
}

impl Turn {
    /// No turn.
    pub(super) fn none() -> Turn {
        Turn { filter: None, swaps: false, words: "none".into() }
    }

    /// The turn by a display matrix, as ffplay and ffmpeg apply it.
    pub(super) fn of(matrix: Option<[i32; 9]>) -> Turn {
        let matrix = matrix.unwrap_or(UPRIGHT);
        let Some(angle) = clockwise(&matrix) else { return Turn::none() };
        let turn = |filter: &str, swaps, words: &str| Turn {
            filter: Some(filter.to_owned()),
            swaps,
            words: words.to_owned(),
        };
        match angle {
            89.0..=91.0 if matrix[3] > 0 => turn("transpose=cclock_flip", true, "90 degrees, mirrored"),
            89.0..=91.0 => turn("transpose=clock", true, "90 degrees clockwise"),
            179.0..=181.0 => match (matrix[0] < 0, matrix[4] < 0) {
                (true, true) => turn("hflip,vflip", false, "180 degrees"),
                (true, false) => turn("hflip", false, "mirrored"),
                (false, true) => turn("vflip", false, "mirrored, upside down"),
                (false, false) => Turn::none(),
            },
            269.0..=271.0 if matrix[3] < 0 => turn("transpose=clock_flip", true, "270 degrees, mirrored"),
            269.0..=271.0 => turn("transpose=cclock", true, "270 degrees clockwise"),
            1.0..=359.0 => turn(
                &format!("rotate={}", angle.to_radians()),
                false,
                &format!("{angle:.0} degrees clockwise"),
            ),
            _ if matrix[4] < 0 => turn("vflip", false, "mirrored, upside down"),
            _ => Turn::none(),
        }
    }

    /// In words: `none`, `90 degrees clockwise`.
    pub fn words(&self) -> &str {
        &self.words
    }
}

/// The angle by which a display matrix turns clockwise, in whole degrees from 0 to below 360; `None` if the matrix has none.
fn clockwise(matrix: &[i32; 9]) -> Option<f64> {
    let [a, b, _, c, d, ..] = matrix.map(f64::from);
    let scale = (a.hypot(c), b.hypot(d));
    if scale.0 == 0.0 || scale.1 == 0.0 {
        return None;
    }
    Some((b / scale.1).atan2(a / scale.0).to_degrees().round().rem_euclid(360.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: i32 = 1 << 16;

    fn matrix(a: i32, b: i32, c: i32, d: i32) -> Option<[i32; 9]> {
        Some([a, b, 0, c, d, 0, 0, 0, 1 << 30])
    }

    #[test]
    fn each_display_matrix_has_its_filter_and_its_words() {
        for (matrix, filter, swaps, words) in [
            (None, None, false, "none"),
            (matrix(ONE, 0, 0, ONE), None, false, "none"),
            (matrix(0, ONE, -ONE, 0), Some("transpose=clock"), true, "90 degrees clockwise"),
            (matrix(-ONE, 0, 0, -ONE), Some("hflip,vflip"), false, "180 degrees"),
            (matrix(0, -ONE, ONE, 0), Some("transpose=cclock"), true, "270 degrees clockwise"),
            (matrix(-ONE, 0, 0, ONE), Some("hflip"), false, "mirrored"),
            (matrix(ONE, 0, 0, -ONE), Some("vflip"), false, "mirrored, upside down"),
            (matrix(0, ONE, ONE, 0), Some("transpose=cclock_flip"), true, "90 degrees, mirrored"),
            (matrix(0, -ONE, -ONE, 0), Some("transpose=clock_flip"), true, "270 degrees, mirrored"),
            (matrix(0, 0, 0, 0), None, false, "none"),
            (matrix(i32::MIN, 0, 0, i32::MIN), Some("hflip,vflip"), false, "180 degrees"),
        ] {
            let turn = Turn::of(matrix);
            assert_eq!(
                (turn.filter.as_deref(), turn.swaps, turn.words()),
                (filter, swaps, words),
                "{matrix:?}"
            );
        }
        let tilted = Turn::of(matrix(56_756, 32_768, -32_768, 56_756));
        assert_eq!(tilted.words(), "30 degrees clockwise");
        assert!(tilted.filter.unwrap().starts_with("rotate=0.5235"));
    }
}
