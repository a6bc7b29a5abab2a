//! `broadcaster status`: how a running broadcaster's stations are, by its API.
