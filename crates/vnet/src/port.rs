//! smoltcp's view of the link: at most one IP packet in, any number out.

use smoltcp::{
    phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken},
    time::Instant,
};

use crate::{MTU, frame::Outbox, link};

/// A device for the length of one call into smoltcp.
pub(crate) struct Port<'a> {
    pub(crate) packet: Option<&'a [u8]>,
    pub(crate) outbox: &'a mut Outbox,
}

pub(crate) struct Incoming<'a>(&'a [u8]);
pub(crate) struct Outgoing<'a>(&'a mut Outbox);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        link::send(self.0, length, write)
    }
}

impl Device for Port<'_> {
    type RxToken<'a>
        = Incoming<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Outgoing<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        Some((Incoming(self.packet.take()?), Outgoing(self.outbox)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Self::TxToken<'_>> {
        Some(Outgoing(self.outbox))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        // A unix socket does not flip bits, but QEMU has been seen to mix frames: a sum is what tells such a one.
        capabilities.checksum.ipv4 = Checksum::Both;
        capabilities.checksum.tcp = Checksum::Both;
        capabilities
    }
}
