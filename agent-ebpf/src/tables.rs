//! The look-ups that a decision needs: the kernel's maps behind one trait, so that the same decision runs in user space.

use crate::abi::{
    Address, Backends, Control, Direction, Flow, FlowKey, Fragment, FragmentKey, Frontend, Identity, IdentityKey,
    Party, Place, PortIndex, Row, RowKey, RuleKey, RuleRef,
};
use crate::judge::{Evaluation, Seen, Subject, evaluate, failsafe, guardrail};
use crate::track::FlowCell;

/// Everything that a decision may ask. None of it fails loudly: what is not there is not known, and not known is not
/// allowed.
pub trait Tables {
    /// The generation in force, and the time-outs.
    fn control(&self) -> &Control;
    /// The generation in force at this very moment: a hook reads it before anything else is looked up.
    fn generation(&self) -> u32 {
        self.control().generation
    }
    /// Now, in jiffies.
    fn now(&self) -> u64;
    /// Who is behind an address: an exact entry, else the longest prefix, else the world.
    fn party(&self, address: &Address) -> Party;
    /// Whom a service stands for.
    fn backends(&self, frontend: &Frontend) -> Option<Backends>;
    /// The workload of this very cgroup or interface.
    fn place(&self, seen: Seen) -> Option<Place>;
    /// The groups of an identity.
    fn identity(&self, key: &IdentityKey) -> Option<&Identity>;
    /// The class of a protocol and port.
    fn port_class(&self, copy: u32, index: PortIndex) -> u16;
    /// A word of the failsafe ports.
    fn failsafe(&self, word: u32) -> u64;
    /// The peers that a subject may have in one direction and port class: a filter, confirmed by [`Self::rule`].
    fn row(&self, key: &RowKey) -> Option<&Row>;
    /// The rule that allows a peer; without one it is not allowed.
    fn rule(&self, key: &RuleKey) -> Option<&RuleRef>;
    /// An established flow.
    fn flow(&self, key: &FlowKey) -> Option<&FlowCell>;
    /// A flow that is not established yet.
    fn embryo(&self, key: &FlowKey) -> Option<&FlowCell>;
    /// Tracks a flow that is not there yet, as an embryo; false where it is, because another CPU was first, or where there is
    /// no room.
    fn insert_embryo(&self, key: &FlowKey, flow: &Flow) -> bool;
    /// Moves an embryo to the established flows.
    ///
    /// It is there before it is gone here, and [`Self::find`] looks the other way round, so that no CPU misses it. One that
    /// still writes to the embryo meanwhile writes in vain: what it decided is decided again at that side's next packet.
    /// Memory of an embryo that is gone may serve another flow at once, as that of one that was evicted: what a slow CPU
    /// still writes there is a stamp for its own workload and generation, and no other workload's packet is let pass by it.
    fn establish(&self, key: &FlowKey, flow: &FlowCell);
    /// A flow in either table. An established one comes first: what is left of it among the embryos, where two CPUs opened it
    /// at once, counts no more.
    #[inline(always)]
    fn find(&self, key: &FlowKey) -> Option<&FlowCell> {
        let embryo = self.embryo(key);
        self.flow(key).or(embryo)
    }
    /// The first fragment of a datagram.
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment>;
    /// [`guardrail`], of whom the local workload is by itself and by its address, then [`evaluate`]; the kernel's tables call
    /// them as functions of their own, which the verifier then walks through once.
    fn evaluate(
        &self,
        subject: Subject,
        identities: [u32; 2],
        peer: u32,
        role: Direction,
        service: PortIndex,
    ) -> Evaluation
    where
        Self: Sized,
    {
        let denial =
            if subject.is_guarded() { guardrail(self, subject.copy(), identities, peer, role, service) } else { None };
        denial.unwrap_or_else(|| evaluate(self, subject, peer, role, service))
    }
    /// [`failsafe`]; the kernel's tables call it as a function of its own, too.
    fn is_failsafe(&self, own: &Address, role: Direction, service: PortIndex) -> bool
    where
        Self: Sized,
    {
        failsafe(self, own, role, service)
    }
    /// Remembers a first fragment; without room its later ones are denied.
    fn remember_fragment(&self, key: &FragmentKey, fragment: &Fragment);
}
