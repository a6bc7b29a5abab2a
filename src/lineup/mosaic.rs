//! Stations that show others: `media = "mosaic:1,2,901"`. Pure.

use crate::media::StationId;
use crate::paint::tiles::MOST_TILES;

/// The stations that an entry of `media` names, if it is a mosaic.
///
/// # Errors
/// A sentence to stand behind `media = "..."`.
pub(super) fn parse(text: &str) -> Option<Result<Vec<StationId>, String>> {
    let ids = text.strip_prefix("mosaic:")?;
    let example = "name stations by their numbers, as in \"mosaic:1,2,901\"";
    let parsed: Option<Vec<StationId>> = ids.split(',').map(number).collect();
    Some(match parsed {
        None => Err(format!("is no mosaic; {example}")),
        Some(ids) if ids.len() > MOST_TILES => {
            Err(format!("has {} stations; a mosaic has at most {MOST_TILES}", ids.len()))
        }
        Some(ids) => match ids.iter().enumerate().find(|(n, id)| ids[..*n].contains(id)) {
            Some((_, twice)) => Err(format!("names station {twice} twice; name each once")),
            None => Ok(ids),
        },
    })
}

fn number(text: &str) -> Option<StationId> {
    let text = text.trim();
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let id = text.parse().ok().filter(|id| digits && (1..=999).contains(id))?;
    Some(StationId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mosaic_names_stations_each_once() {
        let ids = |text: &str| {
            parse(text).map(|parsed| parsed.map(|ids| ids.iter().map(|id| id.0).collect::<Vec<_>>()))
        };
        assert_eq!(ids("mosaic:1,2,901"), Some(Ok(vec![1, 2, 901])));
        assert_eq!(ids("mosaic: 7 "), Some(Ok(vec![7])));
        assert_eq!(ids("films/mosaic:1"), None);
        assert_eq!(ids("mosaic.mp4"), None);
        for wrong in
            ["mosaic:", "mosaic:1,,2", "mosaic:0", "mosaic:1000", "mosaic:a", "mosaic:+1", "mosaic:1-3"]
        {
            let fault = ids(wrong).unwrap().unwrap_err();
            assert!(fault.starts_with("is no mosaic; name stations"), "{wrong}: {fault}");
        }
        assert_eq!(ids("mosaic:1,2,1"), Some(Err("names station 1 twice; name each once".into())));
        let many: Vec<String> = (1..=101).map(|id| id.to_string()).collect();
        let fault = ids(&format!("mosaic:{}", many.join(","))).unwrap().unwrap_err();
        assert_eq!(fault, "has 101 stations; a mosaic has at most 100");
    }
}
