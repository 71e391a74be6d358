//! What a detector without probes of its own gets on its standard input beside the inventory: frames, and questions
//! whether it has kept up.
//!
//! Ours reads neither; it makes the frames (`--frames-to`).

use gauntlet_probes::frame::Frame;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Environment variable that is set in replays only: the path of what the recorder wrote, inventory and frames. A detector
/// that reads it itself says `recording` when it is ready, and is fed nothing.
pub const RECORDING_VARIABLE: &str = "GAUNTLET_RECORDING";

/// One line of a detector's standard input that is none of the inventory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum FeedLine {
    /// What the probes saw in one tick. Sent to a detector that asked for frames when it said `ready`.
    Frame(Box<Frame>),
    /// Asks for `synced` with the same number, once everything before it has been judged. Sent in replays only.
    Sync {
        /// The number, counted up.
        id: u64,
    },
}

impl FeedLine {
    /// The line's bytes, its line feed included.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("frames have string keys only");
        line.push(b'\n');
        line
    }
}
