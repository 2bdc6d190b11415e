//! Work that was begun and goes on by itself: the object of `GET /api/v1/operations/{id}`.

use std::{fmt, str::FromStr};

use mynet_types::{ContentState, GroupId, NodeId};
use serde::{Deserialize, Serialize};

use super::{ConsensusView, ReasonView};

/// Names the replication of one version of a group, as `<group id>-<version>`. Nothing is kept under it, so it never ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationId {
    /// The group.
    pub group_id: GroupId,
    /// Its version.
    pub version: u64,
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.group_id, self.version)
    }
}

impl FromStr for OperationId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (group, version) = text.split_once('-').ok_or("a group id and a version with '-' between them name one")?;
        // Numbers have one spelling here: no sign, no zeros in front.
        let number = version.parse().ok().filter(|number: &u64| number.to_string() == version && *number > 0);
        Ok(Self {
            group_id: group.parse().map_err(|error| format!("{error}"))?,
            version: number.ok_or_else(|| format!("'{version}' is no version"))?,
        })
    }
}

/// How far the replication and certification of one version of a group came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationView {
    /// Names it.
    pub operation_id: String,
    /// The group.
    pub group_id: GroupId,
    /// The version.
    pub version: u64,
    /// How it stands.
    pub state: OperationState,
    /// The same in a sentence each: copies, then votes.
    pub summary: Vec<String>,
    /// Copies with their receipts.
    pub copies_done: usize,
    /// Copies that make it durable.
    pub copies_needed: usize,
    /// Copies wanted.
    pub copies_wanted: usize,
    /// Bytes that are verified on other nodes, as far as those reported it.
    pub bytes_done: u64,
    /// Bytes that the copies on other nodes come to.
    pub bytes_total: u64,
    /// What the validators said.
    pub consensus: ConsensusView,
    /// Every other node that has a copy, or is to have one.
    pub targets: Vec<OperationTargetView>,
}

/// How an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// It goes on.
    Running,
    /// It needs more nodes, or more validators, than there are; it goes on when they come.
    Waiting,
    /// Every wanted copy has its receipt, and the validators approved.
    Succeeded,
    /// The validators rejected it.
    Failed,
}

/// One copy of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationTargetView {
    /// Who.
    pub node_id: NodeId,
    /// As in `why`: `held`, `asked`, `receiving`, `prepared`, `committing`, `paused`, `refused` or `missing`.
    pub state: String,
    /// What it holds, or is to hold.
    pub states: Vec<ContentState>,
    /// Bytes that it has verified.
    pub bytes_done: u64,
    /// Bytes that its copy comes to.
    pub bytes_total: u64,
    /// Why it would not, the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refusal: Option<ReasonView>,
    /// What stands in its way: `unreachable`, if this node has no connection to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hindered_by: Option<ReasonView>,
}

#[cfg(test)]
mod tests {
    use mynet_types::GroupId;

    use super::OperationId;

    #[test]
    fn an_id_is_read_as_it_is_written_and_in_no_other_way() {
        let id = OperationId { group_id: GroupId([7; 32]), version: 12 };
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        let group = id.group_id.to_string();
        let version_0 = format!("{group}-0");
        for wrong in ["", "-", "-1", "7-1", &group, &version_0, &format!("{group}-+1"), &format!("{group}-01")] {
            assert!(wrong.parse::<OperationId>().is_err(), "{wrong}");
        }
        assert!(format!("{group}-{}0", u64::MAX).parse::<OperationId>().is_err());
    }
}
