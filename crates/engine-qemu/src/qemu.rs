//! QEMU's command line: one pure function of what the VM is.
//!
//! No default devices, no configuration files. Everything that QEMU talks through is an inherited socket, whose other
//! end the shim has: there is nothing in the file system that somebody else could connect to, and nothing to wait for.
//!
//! The order of the devices is the order of their PCI addresses, and with it of the guest's NICs: append only.

use std::{
    ffi::{OsStr, OsString},
    os::fd::RawFd,
    path::PathBuf,
};

use berth_model::VmId;
use serde::{Deserialize, Serialize};

use crate::{accel::Accel, egress, paths::VmPaths};

/// The agent's port, in the guest as `/dev/virtio-ports/org.qemu.guest_agent.0` and in QEMU's events.
pub(crate) const AGENT_PORT: &str = "agent";
/// The MAC address of the NIC that leads out; locally administered. Every way out is a network of its own.
const WAY_OUT_MAC: &str = "02:62:74:68:00:03";

/// The machine that QEMU is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) accel: Accel,
    /// QEMU's name for the board, with the version that first had it: `pc-i440fx-10.0`.
    pub(crate) board: String,
    pub(crate) cpus: u32,
    /// Bytes.
    pub(crate) memory: u64,
    /// Where they are, [`Machine::memory_bytes`] long.
    pub(crate) memory_file: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
    pub(crate) kernel_arguments: String,
    /// The overlay, qcow2.
    pub(crate) disk: PathBuf,
    /// The name in lists of processes.
    pub(crate) name: String,
}

impl Machine {
    /// The memory in whole megabytes, as QEMU wants it, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.next_multiple_of(1 << 20)
    }

    /// The same machine with the files of a VM, for one that was moved or forked since it fell asleep.
    pub(crate) fn at(self, vm: VmId, paths: &VmPaths) -> Self {
        Self { memory_file: paths.warm().memory(), disk: paths.disk(), name: Self::name(vm), ..self }
    }

    pub(crate) fn name(vm: VmId) -> String {
        format!("berth-{vm}")
    }
}

/// How the machine begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// From its firmware.
    Boot,
    /// It waits for the state of another run, and then to be told to go on.
    Incoming,
}

/// Descriptors that QEMU inherits: connected unix sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wires {
    pub(crate) control: RawFd,
    pub(crate) agent: RawFd,
    pub(crate) console: RawFd,
    /// The private network.
    pub(crate) network: RawFd,
    /// The way out, if there is one.
    pub(crate) way_out: Option<WayOutWires>,
}

/// The ends of the filter between the guest and the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WayOutWires {
    /// Towards the guest's NIC.
    pub(crate) guest: RawFd,
    /// Towards QEMU's own user network, if that leads out.
    pub(crate) user_network: Option<RawFd>,
}

/// The arguments for QEMU, without the program.
pub(crate) fn arguments(machine: &Machine, wires: &Wires, begin: Begin) -> Vec<OsString> {
    let mut line = Line::default();
    line.flag("-nodefaults").flag("-no-user-config");
    line.add("-name", format!("{0},process={0}", machine.name));
    line.add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    line.add("-display", "none");
    // A reboot stays a reboot, a power-off ends QEMU, and so does a panic that the guest reports.
    line.add("-action", "reboot=reset,shutdown=poweroff,panic=shutdown");
    line.add(
        "-machine",
        format!("{},usb=off,vmport=off,dump-guest-core=off,memory-backend=ram", machine.board),
    );
    match machine.accel {
        Accel::Kvm => line.add("-accel", "kvm").add("-cpu", "host"),
        Accel::Tcg => line.add("-accel", "tcg,thread=multi").add("-cpu", "max"),
    };
    line.add("-smp", machine.cpus.to_string());
    let megabytes = machine.memory_bytes() >> 20;
    line.add("-m", format!("size={megabytes}M"));
    // A file that outlives QEMU: to fall asleep, nothing of it has to be written.
    let mut ram = OsString::from(format!("memory-backend-file,id=ram,size={megabytes}M,share=on,mem-path="));
    ram.push(escaped(machine.memory_file.as_os_str()));
    line.add("-object", ram);
    line.add("-kernel", &machine.kernel);
    line.add("-initrd", &machine.initrd);
    line.add("-append", &machine.kernel_arguments);

    line.add("-chardev", format!("socket,id=control,fd={}", wires.control));
    line.add("-mon", "chardev=control,mode=control");
    line.add("-chardev", format!("socket,id=console,fd={}", wires.console));
    line.add("-device", "isa-serial,chardev=console");

    let mut blockdev = OsString::from(
        "driver=qcow2,node-name=disk,discard=unmap,detect-zeroes=unmap,file.driver=file,file.filename=",
    );
    blockdev.push(escaped(machine.disk.as_os_str()));
    line.add("-blockdev", blockdev);
    // A disk that cannot grow makes the guest wait, not fail.
    line.add("-device", "virtio-blk-pci,drive=disk,werror=stop,rerror=report");

    network(&mut line, "net", wires.network, &mac(berth_vnet::GUEST_MAC), berth_vnet::MTU);
    if let Some(out) = wires.way_out {
        let mtu = if out.user_network.is_some() { egress::USER_MTU } else { egress::MTU };
        network(&mut line, "out", out.guest, WAY_OUT_MAC, mtu);
        if let Some(user_network) = out.user_network {
            line.add("-netdev", format!("user,id=user,ipv6=off,net={}", egress::USER_NETWORK));
            line.add("-netdev", stream("world", user_network));
            line.add("-netdev", "hubport,id=hub0,hubid=0,netdev=user");
            line.add("-netdev", "hubport,id=hub1,hubid=0,netdev=world");
        }
    }

    line.add("-device", "virtio-serial-pci");
    line.add("-chardev", format!("socket,id=agent,fd={}", wires.agent));
    line.add("-device", format!("virtserialport,id={AGENT_PORT},chardev=agent,name=org.qemu.guest_agent.0"));
    line.add("-device", "virtio-rng-pci");
    line.add("-device", "virtio-balloon-pci,free-page-reporting=on");
    if begin == Begin::Incoming {
        line.flag("-S").add("-incoming", "defer");
    }
    line.0
}

fn network(line: &mut Line, id: &str, fd: RawFd, mac: &str, mtu: usize) {
    line.add("-netdev", stream(id, fd));
    line.add("-device", format!("virtio-net-pci,netdev={id},mac={mac},host_mtu={mtu},romfile="));
}

fn stream(id: &str, fd: RawFd) -> String {
    format!("stream,id={id},server=off,addr.type=fd,addr.str={fd}")
}

fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

/// A value in a list of options: QEMU takes a doubled comma for a comma.
fn escaped(value: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = Vec::with_capacity(value.len());
    for byte in value.as_bytes() {
        bytes.push(*byte);
        if *byte == b',' {
            bytes.push(b',');
        }
    }
    OsString::from_vec(bytes)
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    fn add(&mut self, option: &str, value: impl AsRef<OsStr>) -> &mut Self {
        self.0.push(option.into());
        self.0.push(value.as_ref().to_owned());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            accel: Accel::Tcg,
            board: "pc-i440fx-10.0".to_owned(),
            cpus: 2,
            memory: 1 << 30,
            memory_file: "/shm/x,y/memory".into(),
            kernel: "/images/a/vmlinuz".into(),
            initrd: "/images/a/initrd".into(),
            kernel_arguments: "console=ttyS0 root=/dev/vda".to_owned(),
            disk: "/state/vms/x,y/disk.qcow2".into(),
            name: "berth-x".to_owned(),
        }
    }

    const WIRES: Wires = Wires { control: 3, agent: 4, console: 5, network: 6, way_out: None };

    fn text(machine: &Machine, wires: &Wires) -> String {
        let words: Vec<_> = arguments(machine, wires, Begin::Boot)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        words.join(" ")
    }

    #[test]
    fn the_whole_line() {
        assert_eq!(
            text(&machine(), &WIRES),
            "-nodefaults -no-user-config -name berth-x,process=berth-x \
             -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny -display none \
             -action reboot=reset,shutdown=poweroff,panic=shutdown \
             -machine pc-i440fx-10.0,usb=off,vmport=off,dump-guest-core=off,memory-backend=ram \
             -accel tcg,thread=multi -cpu max -smp 2 -m size=1024M \
             -object memory-backend-file,id=ram,size=1024M,share=on,mem-path=/shm/x,,y/memory \
             -kernel /images/a/vmlinuz -initrd /images/a/initrd -append console=ttyS0 root=/dev/vda \
             -chardev socket,id=control,fd=3 -mon chardev=control,mode=control \
             -chardev socket,id=console,fd=5 -device isa-serial,chardev=console \
             -blockdev driver=qcow2,node-name=disk,discard=unmap,detect-zeroes=unmap,file.driver=file,\
             file.filename=/state/vms/x,,y/disk.qcow2 \
             -device virtio-blk-pci,drive=disk,werror=stop,rerror=report \
             -netdev stream,id=net,server=off,addr.type=fd,addr.str=6 \
             -device virtio-net-pci,netdev=net,mac=02:62:74:68:00:02,host_mtu=65520,romfile= \
             -device virtio-serial-pci -chardev socket,id=agent,fd=4 \
             -device virtserialport,id=agent,chardev=agent,name=org.qemu.guest_agent.0 \
             -device virtio-rng-pci -device virtio-balloon-pci,free-page-reporting=on"
        );
    }

    #[test]
    fn a_machine_that_wakes_has_the_same_devices_and_waits() {
        let words = |begin| arguments(&machine(), &WIRES, begin);
        let (boot, wake) = (words(Begin::Boot), words(Begin::Incoming));
        assert_eq!(wake.get(..boot.len()), Some(&boot[..]));
        assert_eq!(wake.get(boot.len()..).unwrap(), ["-S", "-incoming", "defer"]);
    }

    #[test]
    fn kvm_has_the_hosts_processor() {
        let kvm = Machine { accel: Accel::Kvm, ..machine() };
        assert!(text(&kvm, &WIRES).contains("-accel kvm -cpu host "));
    }

    #[test]
    fn the_way_out_is_the_second_nic_and_qemus_user_network_is_behind_the_filter_too() {
        let passt = Wires { way_out: Some(WayOutWires { guest: 7, user_network: None }), ..WIRES };
        let line = text(&machine(), &passt);
        let first = line.find("virtio-net-pci,netdev=net").unwrap();
        let second = line.find("virtio-net-pci,netdev=out").unwrap();
        assert!(first < second && !line.contains("user,id=user"));
        let user = Wires { way_out: Some(WayOutWires { guest: 7, user_network: Some(8) }), ..WIRES };
        let line = text(&machine(), &user);
        assert!(line.contains("-netdev stream,id=out,server=off,addr.type=fd,addr.str=7 "));
        assert!(line.contains("-netdev stream,id=world,server=off,addr.type=fd,addr.str=8 "));
        assert!(!line.contains("netdev=user,mac"), "no NIC is on the user network itself");
    }
}
