//! What need not be reached, and why it cannot be.

use realtime_proto::supabase::CauseKind;

use super::axis::{
    ChannelView, Condition, ConnectionView, Count, Course, Place, PushEnd, ViolationKind,
};
use crate::scenario::{ActKind, FaultKind};

type Excuse = Option<&'static str>;

pub(super) fn connection(_: ConnectionView, _: ConnectionView) -> Excuse {
    None
}
pub(super) fn channel(_: ChannelView, _: ChannelView) -> Excuse {
    None
}
pub(super) fn lease_state(_: ChannelView, _: Count) -> Excuse {
    None
}
pub(super) fn lease(_: ChannelView, _: ChannelView) -> Excuse {
    None
}
pub(super) fn cause(_: CauseKind, _: Place) -> Excuse {
    None
}
pub(super) fn fault(_: FaultKind, _: Condition) -> Excuse {
    None
}
pub(super) fn act(_: ActKind, _: Condition) -> Excuse {
    None
}
pub(super) fn push(_: PushEnd, _: Count) -> Excuse {
    None
}
pub(super) fn violation(_: ViolationKind, _: Count) -> Excuse {
    None
}
pub(super) fn course(_: Course, _: Count) -> Excuse {
    None
}
