//! Fits a table into a terminal. A number that lost a digit is a false number, so columns are shown whole or not at all; only
//! text is shortened.

use super::rows::{EXPENDABLE, N, SHORTENED, column};
use crate::text_table::{GAP, widths};

/// The columns that are shown, in their order, each with its width. They take at most `total` terminal columns together.
/// `rows` begins with the column names.
///
/// Text is shortened first, then columns without a value are left out, then those of least importance.
pub(super) fn fitted(rows: &[[String; N]], total: usize) -> Vec<(usize, usize)> {
    let natural = widths(rows);
    let is_empty = |n: &usize| rows.iter().skip(1).all(|row| matches!(row[*n].as_str(), "" | "-"));
    let expendable: Vec<usize> = EXPENDABLE.iter().filter_map(|name| column(name)).collect();
    let (empty, useful): (Vec<usize>, Vec<usize>) = expendable.iter().partition(|n| is_empty(n));
    let drops: Vec<usize> = empty.into_iter().chain(useful).collect();
    let mut least = natural;
    for (name, width) in SHORTENED {
        if let Some(n) = column(name) {
            least[n] = natural[n].min(width);
        }
    }
    let taken = |shown: &[usize], widths: &[usize; N]| {
        shown.iter().map(|&n| widths[n]).sum::<usize>() + GAP * shown.len().saturating_sub(1)
    };
    let mut shown: Vec<usize> = (0..N).collect();
    for dropped in drops {
        if taken(&shown, &least) <= total {
            break;
        }
        shown.retain(|&n| n != dropped);
    }
    // Number and name are left. The name takes what there is, and goes before the number does.
    while taken(&shown, &least) > total {
        let over = taken(&shown, &least) - total;
        match shown.last() {
            Some(&name) if column("name") == Some(name) && least[name] > over => least[name] -= over,
            Some(_) => drop(shown.pop()),
            None => break,
        }
    }
    let mut spare = total - taken(&shown, &least);
    let mut widths = least;
    for n in SHORTENED.iter().rev().filter_map(|(name, _)| column(name)).filter(|n| shown.contains(n)) {
        let more = spare.min(natural[n].saturating_sub(widths[n]));
        widths[n] += more;
        spare -= more;
    }
    shown.into_iter().map(|n| (n, widths[n])).collect()
}
