//! Films one after the other: which of them is on at a position, and at which offset in it.

use std::time::Duration;

/// The lengths of films that follow each other without a gap, as positions since the beginning of the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilmSequence {
    /// At least one; ascending, the first is 0.
    begins: Vec<Duration>,
    length: Duration,
}

impl FilmSequence {
    /// `None` if there is no film, or if all lengths are 0.
    pub(crate) fn new(lengths: impl IntoIterator<Item = Duration>) -> Option<FilmSequence> {
        let mut length = Duration::ZERO;
        let mut begins = Vec::new();
        for film in lengths {
            begins.push(length);
            length += film;
        }
        (!length.is_zero()).then_some(FilmSequence { begins, length })
    }

    /// Playing time of all films.
    pub(crate) fn length(&self) -> Duration {
        self.length
    }

    /// The film that is on at `position`: its number, and the offset in it. After the end that is the last film.
    pub(crate) fn at(&self, position: Duration) -> (usize, Duration) {
        let film = self.begins.partition_point(|&begin| begin <= position) - 1;
        (film, position - self.begins[film])
    }

    /// The position at which a film begins.
    pub(crate) fn begin(&self, film: usize) -> Duration {
        self.begins[film]
    }

    /// The position at which a film ends, and the next one begins.
    pub(crate) fn end(&self, film: usize) -> Duration {
        self.begins.get(film + 1).copied().unwrap_or(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_lies_in_the_film_that_is_on() {
        let ms = Duration::from_millis;
        let films = FilmSequence::new([200, 0, 300].map(ms)).unwrap();
        assert_eq!(films.length(), ms(500));
        for (position, film, offset) in [(0, 0, 0), (199, 0, 199), (200, 2, 0), (499, 2, 299), (900, 2, 700)]
        {
            assert_eq!(films.at(ms(position)), (film, ms(offset)), "{position}");
        }
        assert_eq!([0, 1, 2].map(|film| films.end(film)), [200, 200, 500].map(ms));
        assert_eq!(films.begin(2), ms(200));
        assert_eq!((FilmSequence::new([]), FilmSequence::new([ms(0)])), (None, None));
    }
}
