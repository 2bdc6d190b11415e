//! The promises of the program, seen from outside: real processes on loopback.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod certificates;
mod chaos;
mod cli_manners;
mod cli_mistakes;
mod cli_terminal;
mod crash_table;
mod damage;
mod deleting;
mod demo;
mod doctor;
mod documents;
mod events;
mod files;
mod full;
mod http_mistakes;
mod liar;
mod lost_disks;
mod media;
mod mistakes;
mod modes;
mod operations;
mod origin;
mod powerloss;
mod ranges;
mod reading;
mod recovery;
mod reload;
mod roster;
mod spine;
mod strangers;
mod surface;
mod versions;
mod why;
