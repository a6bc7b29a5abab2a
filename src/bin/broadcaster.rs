//! on air
fn main() {}
