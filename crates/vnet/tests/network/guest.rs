//! A guest in the same process: a second smoltcp at the other end of the stream, with a DHCP client and small
//! programs that listen on ports. Its codec is its own, so that two equal mistakes do not cancel out.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use berth_vnet::{GUEST_MAC, MTU};
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::{dhcpv4, tcp},
    time::Instant,
    wire::{
        ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, HardwareAddress,
        Icmpv6Packet, Icmpv6Repr, IpAddress, IpCidr, IpListenEndpoint, IpProtocol, Ipv4Address, Ipv4Cidr,
        Ipv6Address, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
    },
};
use tokio::{io::Interest, net::UnixStream, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) const V6: IpAddress = IpAddress::v6(0xfe80, 0, 0, 0, 0x0062, 0x74ff, 0xfe68, 0x0002);
pub(crate) const V4: IpAddress = IpAddress::v4(169, 254, 77, 2);

/// What listens on a port.
#[derive(Clone, Copy, Debug)]
pub(crate) enum App {
    /// Sends back what it gets; finishes when the peer does.
    Echo,
    /// Sends this many bytes of [`pattern`] and finishes; reads meanwhile, and checks what it reads.
    Pattern(usize),
    /// Accepts, and never reads.
    Deaf,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener {
    pub(crate) address: Option<IpAddress>,
    pub(crate) port: u16,
    pub(crate) app: App,
    pub(crate) backlog: usize,
    pub(crate) buffer: usize,
}

impl Listener {
    pub(crate) fn new(port: u16, app: App) -> Self {
        Self { address: None, port, app, backlog: 4, buffer: 0xffff << 4 }
    }

    pub(crate) fn at(self, address: IpAddress) -> Self {
        Self { address: Some(address), ..self }
    }
}

/// How a connection went, as the guest saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) received: usize,
    pub(crate) corrupt: bool,
    pub(crate) finished: bool,
    pub(crate) reset: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Cidr,
    pub(crate) router: bool,
    pub(crate) name_servers: usize,
}

pub(crate) struct Guest {
    task: JoinHandle<io::Result<Machine>>,
    stop: CancellationToken,
    pub(crate) records: Arc<Mutex<Vec<Record>>>,
    pub(crate) lease: Arc<Mutex<Option<Lease>>>,
}

impl Guest {
    /// Boots a guest that listens, on both addresses unless a listener says otherwise.
    pub(crate) fn boot(connection: UnixStream, listeners: &[Listener]) -> Self {
        let records = Arc::new(Mutex::new(Vec::new()));
        let lease = Arc::new(Mutex::new(None));
        Self::run(Machine::new(connection, listeners, records, lease))
    }

    fn run(machine: Machine) -> Self {
        let (records, lease) = (machine.records.clone(), machine.lease.clone());
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "the test ends it, or is ended with it")]
        let task = tokio::spawn(machine.run(stop.clone()));
        Self { task, stop, records, lease }
    }

    /// Stops its processors. Its memory is kept, and what is on the wire stays there.
    pub(crate) async fn stop(self) -> Stopped {
        self.stop.cancel();
        Stopped { machine: self.task.await.unwrap().unwrap(), since: tokio::time::Instant::now() }
    }

    pub(crate) async fn power_off(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap().clone()
    }

    /// Waits for something to become true of the connections so far.
    pub(crate) async fn until(&self, what: impl Fn(&[Record]) -> bool) -> Vec<Record> {
        for _ in 0..2000 {
            let records = self.records();
            if what(&records) {
                return records;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("this did not come true: {:?}", self.records());
    }

    pub(crate) async fn leased(&self) -> Lease {
        for _ in 0..2000 {
            if let Some(lease) = self.lease.lock().unwrap().clone() {
                return lease;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the guest got no lease");
    }
}

/// A guest whose time stands still.
pub(crate) struct Stopped {
    machine: Machine,
    since: tokio::time::Instant,
}

impl Stopped {
    /// Lets it go on.
    pub(crate) fn cont(mut self) -> Guest {
        self.machine.start += self.since.elapsed();
        Guest::run(self.machine)
    }

    /// Ends its QEMU, and with it all frames that QEMU held or had not read yet.
    pub(crate) fn quit(&mut self) {
        let (closed, _) = UnixStream::pair().unwrap();
        self.machine.connection = closed;
        self.machine.wire = Wire::default();
    }

    /// Goes on in another QEMU.
    pub(crate) fn wake(mut self, connection: UnixStream) -> Guest {
        self.quit();
        self.machine.connection = connection;
        self.cont()
    }
}

const PERIOD: usize = 65521;

/// Byte `offset` and those after it of an endless stream in which a lost or doubled byte shows.
pub(crate) fn pattern(offset: usize, length: usize) -> &'static [u8] {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let bytes = BYTES.get_or_init(|| {
        let mut x = 1_u32;
        let period: Vec<u8> = (0..PERIOD)
            .map(|_| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (x >> 24) as u8
            })
            .collect();
        period.repeat(3)
    });
    &bytes[offset % PERIOD..][..length.min(PERIOD)]
}

/// Whether `data` is what [`pattern`] has at `offset`.
pub(crate) fn is_pattern(offset: usize, data: &[u8]) -> bool {
    let mut at = offset;
    data.chunks(PERIOD).all(|chunk| {
        let same = chunk == pattern(at, chunk.len());
        at += chunk.len();
        same
    })
}

struct Process {
    handle: SocketHandle,
    listener: Listener,
    sent: usize,
    record: Option<usize>,
    over: bool,
}

struct Machine {
    connection: UnixStream,
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: SocketHandle,
    processes: Vec<Process>,
    records: Arc<Mutex<Vec<Record>>>,
    lease: Arc<Mutex<Option<Lease>>>,
    start: tokio::time::Instant,
}

impl Machine {
    fn new(
        connection: UnixStream,
        listeners: &[Listener],
        records: Arc<Mutex<Vec<Record>>>,
        lease: Arc<Mutex<Option<Lease>>>,
    ) -> Self {
        let mut wire = Wire::default();
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(GUEST_MAC)));
        config.random_seed = 7;
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(V6, 64)).unwrap());
        wire.meet_host();
        let mut sockets = SocketSet::new(Vec::new());
        let dhcp = sockets.add(dhcpv4::Socket::new());
        let mut machine = Self {
            connection,
            wire,
            interface,
            sockets,
            dhcp,
            processes: Vec::new(),
            records,
            lease,
            start: tokio::time::Instant::now(),
        };
        for listener in listeners {
            for _ in 0..listener.backlog {
                machine.listen(*listener);
            }
        }
        machine
    }

    fn listen(&mut self, listener: Listener) {
        let buffer = || tcp::SocketBuffer::new(vec![0; listener.buffer]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.listen(IpListenEndpoint { addr: listener.address, port: listener.port }).unwrap();
        let handle = self.sockets.add(socket);
        self.processes.push(Process { handle, listener, sent: 0, record: None, over: false });
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.start.elapsed().as_micros() as i64)
    }

    async fn run(mut self, stop: CancellationToken) -> io::Result<Self> {
        while !stop.is_cancelled() {
            let mut busy = self.wire.read(&self.connection)?;
            for _ in 0..200 {
                self.interface.poll(self.now(), &mut self.wire, &mut self.sockets);
                if !self.work() || self.wire.outgoing.len() > 1 << 20 {
                    break;
                }
            }
            busy |= self.wire.write(&self.connection)?;
            if busy {
                tokio::task::yield_now().await;
                continue;
            }
            let delay = self.interface.poll_delay(self.now(), &self.sockets);
            let delay = delay.map_or(Duration::from_secs(3600), Duration::from);
            let interest = match self.wire.outgoing.is_empty() {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            tokio::select! {
                ready = self.connection.ready(interest) => drop(ready?),
                () = tokio::time::sleep(delay.max(Duration::from_millis(1))) => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(self)
    }

    /// Lets every program do what it can. Says whether one did something.
    fn work(&mut self) -> bool {
        if let Some(dhcpv4::Event::Configured(config)) =
            self.sockets.get_mut::<dhcpv4::Socket>(self.dhcp).poll()
        {
            let (router, name_servers) = (config.router.is_some(), config.dns_servers.len());
            *self.lease.lock().unwrap() = Some(Lease { address: config.address, router, name_servers });
            let address = IpCidr::Ipv4(config.address);
            self.interface.update_ip_addrs(|addresses| {
                addresses.retain(|address| matches!(address, IpCidr::Ipv6(_)));
                addresses.push(address).unwrap();
            });
            self.wire.meet_host();
        }
        let mut busy = false;
        let mut accepted = Vec::new();
        for process in &mut self.processes {
            let socket = self.sockets.get_mut::<tcp::Socket>(process.handle);
            let mut records = self.records.lock().unwrap();
            if process.record.is_none() {
                if matches!(socket.state(), tcp::State::Listen | tcp::State::SynReceived) {
                    continue;
                }
                process.record = Some(records.len());
                records.push(Record::default());
                accepted.push(process.listener);
            }
            let record = &mut records[process.record.unwrap()];
            busy |= process.step(socket, record);
        }
        for listener in &accepted {
            self.listen(*listener);
        }
        self.processes.retain(|process| {
            if process.over {
                self.sockets.remove(process.handle);
            }
            !process.over
        });
        busy
    }
}

impl Process {
    fn step(&mut self, socket: &mut tcp::Socket, record: &mut Record) -> bool {
        let before = (record.received, self.sent);
        match self.listener.app {
            App::Echo => {
                while socket.can_recv() && socket.can_send() {
                    let room = socket.send_capacity() - socket.send_queue();
                    let data = socket
                        .recv(|data| (data.len().min(room), data[..data.len().min(room)].to_vec()))
                        .unwrap();
                    assert_eq!(socket.send_slice(&data).unwrap(), data.len());
                    record.received += data.len();
                }
            }
            App::Pattern(total) => {
                while socket.can_recv() {
                    let data = socket.recv(|data| (data.len(), data.to_vec())).unwrap();
                    record.corrupt |= !is_pattern(record.received, &data);
                    record.received += data.len();
                }
                while self.sent < total && socket.can_send() {
                    self.sent += socket.send_slice(pattern(self.sent, total - self.sent)).unwrap();
                }
                // In LAST-ACK smoltcp ignores window updates.
                let stuck = socket.state() == tcp::State::CloseWait && socket.send_queue() > 0;
                if self.sent == total && !stuck {
                    socket.close();
                }
            }
            App::Deaf => {}
        }
        let finished = !socket.may_recv();
        if finished && matches!(socket.recv(|_| (0, ())), Err(tcp::RecvError::Finished)) {
            record.finished = true;
            if matches!(self.listener.app, App::Echo) {
                socket.close();
            }
        } else if socket.state() == tcp::State::Closed && !socket.can_recv() && !record.finished {
            record.reset = true;
        }
        self.over = socket.state() == tcp::State::Closed;
        before != (record.received, self.sent)
    }
}

#[derive(Default)]
struct Wire {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Wire {
    /// Lets the guest know the host's station before it asks: smoltcp drops what it would send meanwhile, where
    /// a kernel keeps it.
    fn meet_host(&mut self) {
        const HOST_MAC: EthernetAddress = EthernetAddress([0x02, 0x62, 0x74, 0x68, 0x00, 0x01]);
        let host_v6 = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let IpAddress::Ipv4(guest_v4) = V4 else { unreachable!() };
        let IpAddress::Ipv6(guest_v6) = V6 else { unreachable!() };
        let arp = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: HOST_MAC,
            source_protocol_addr: Ipv4Address::new(169, 254, 77, 1),
            target_hardware_addr: EthernetAddress(GUEST_MAC),
            target_protocol_addr: guest_v4,
        };
        self.receive(EthernetProtocol::Arp, arp.buffer_len(), |payload| {
            arp.emit(&mut ArpPacket::new_unchecked(payload));
        });
        let advert = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
            flags: NdiscNeighborFlags::OVERRIDE,
            target_addr: host_v6,
            lladdr: Some(HOST_MAC.into()),
        });
        let header = Ipv6Repr {
            src_addr: host_v6,
            dst_addr: guest_v6,
            next_header: IpProtocol::Icmpv6,
            payload_len: advert.buffer_len(),
            hop_limit: 255,
        };
        self.receive(EthernetProtocol::Ipv6, header.buffer_len() + advert.buffer_len(), |payload| {
            let mut packet = Ipv6Packet::new_unchecked(payload);
            header.emit(&mut packet);
            let mut icmp = Icmpv6Packet::new_unchecked(packet.payload_mut());
            advert.emit(&host_v6, &guest_v6, &mut icmp, &ChecksumCapabilities::default());
        });
    }

    fn receive(&mut self, kind: EthernetProtocol, length: usize, fill: impl FnOnce(&mut [u8])) {
        let mut bytes = vec![0; 14 + length];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
        frame.set_dst_addr(EthernetAddress(GUEST_MAC));
        frame.set_ethertype(kind);
        fill(frame.payload_mut());
        let prefix = (bytes.len() as u32).to_be_bytes();
        self.incoming.splice(0..0, prefix.into_iter().chain(bytes));
    }

    fn read(&mut self, connection: &UnixStream) -> io::Result<bool> {
        if self.incoming.len() > 1 << 20 {
            return Ok(true);
        }
        let held = self.incoming.len();
        self.incoming.resize(held + (256 << 10), 0);
        let count = match connection.try_read(&mut self.incoming[held..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.incoming.truncate(held + count);
        Ok(count > 0)
    }

    fn write(&mut self, connection: &UnixStream) -> io::Result<bool> {
        let mut sent = 0;
        while sent < self.outgoing.len() {
            match connection.try_write(&self.outgoing[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.outgoing.drain(..sent);
        Ok(sent > 0)
    }
}

struct Received(Vec<u8>);
struct Sent<'a>(&'a mut Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        self.0.extend_from_slice(&(length as u32).to_be_bytes());
        let start = self.0.len();
        self.0.resize(start + length, 0);
        write(&mut self.0[start..])
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sent<'_>)> {
        let length = u32::from_be_bytes(*self.incoming.first_chunk::<4>()?) as usize;
        if self.incoming.len() < 4 + length {
            return None;
        }
        let frame = self.incoming[4..4 + length].to_vec();
        self.incoming.drain(..4 + length);
        Some((Received(frame), Sent(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sent<'_>> {
        // Windows bound it. A refusal in a fast retransmission would end smoltcp's retransmissions.
        Some(Sent(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MTU + 14;
        capabilities
    }
}
