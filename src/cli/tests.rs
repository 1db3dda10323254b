//! The pure parts of the command line.
