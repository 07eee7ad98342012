// SPDX-License-Identifier: MIT OR Apache-2.0
//! YAML files that people write by hand: scenarios, kernel and image definitions.
//!
//! [`parse`] turns a [`Source`] into a tree of [`Node`]s that know where they stand. [`check`]
//! holds the tree against a [`Shape`] and reports everything that is wrong with it, each with its
//! span; [`json_schema`] turns the same `Shape` into a schema for editors, so the two cannot drift.
//! Lowering a checked tree to a model is the caller's, with the accessors of `Node`.
//!
//! Nothing here does I/O: the caller reads the file and prints the diagnostics.

mod check;
mod diagnostic;
mod node;
mod parse;
mod schema;
mod shape;
mod source;
mod suggest;

pub use check::{check, require_version};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use node::{Key, Node, Value, parse_duration};
pub use parse::parse;
pub use schema::json_schema;
pub use shape::{Field, Int, Lexis, List, MapOf, OneOf, Record, Rule, Shape, Text};
pub use source::{Source, Span};
pub use suggest::{did_you_mean, known_names, suggest};
