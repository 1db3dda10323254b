//! What `onced run` keeps of a command, and under which digest.
