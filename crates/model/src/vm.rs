//! How VMs are called: by members (`vm-0`), in the world (`vm-0.alice.koding`) and inside Berth ([`VmId`]).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::name::{AccountName, NameError, TeamName};

/// Why a text is not the name, number or id of a VM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VmNameError {
    /// Not of the form `vm-N.account.team`.
    #[error("This is not the name of a VM. Such a name looks like vm-0.alice.koding.")]
    Shape,
    /// The first part is not `vm-` and a number.
    #[error("A VM is called vm- and a number without leading zeros, for example vm-0.")]
    Number,
    /// The part that names the owner or the team is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Not 16 lower-case hexadecimal digits.
    #[error("The id of a VM is 16 hexadecimal digits, 0 to 9 and a to f.")]
    Id,
}

/// The id that a VM keeps for life, whatever its name: random, 16 lower-case hexadecimal digits, safe in file names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmId(u64);

impl VmId {
    /// A new id. Two of them are equal once in 2⁶⁴ pairs; the store refuses the second.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The same as a number, random in all its bits.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VmId({self})")
    }
}

impl FromStr for VmId {
    type Err = VmNameError;

    fn from_str(text: &str) -> Result<Self, VmNameError> {
        let digits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !digits {
            return Err(VmNameError::Id);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| VmNameError::Id)
    }
}

/// The number of a VM, counted from 0 per account and team.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VmNumber(pub u32);

impl VmNumber {
    /// The VM that a member's short names stand for.
    pub const FIRST: Self = Self(0);

    /// The number in a label such as `vm-3`: lower case, decimal, no sign, no leading zero.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::after("vm-", label)
    }

    /// The same in the label of a team's own VM, such as `shared-3`.
    #[must_use]
    pub fn from_team_label(label: &str) -> Option<Self> {
        Self::after("shared-", label)
    }

    fn after(prefix: &str, label: &str) -> Option<Self> {
        let digits = label.strip_prefix(prefix)?;
        let canonical = digits == "0" || !digits.starts_with('0');
        if !canonical || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok().map(Self)
    }
}

impl fmt::Display for VmNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a VM in the world: `vm-0.alice.koding`, or `shared-0.koding` for one that belongs to its team. With the VM domain behind it, it is a host name
/// ([`crate::Domains::canonical`]).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmName {
    /// The number, per owner and team.
    pub number: VmNumber,
    /// The account that the VM belongs to; [`AccountName::of_teams`] where it is the team's.
    pub owner: AccountName,
    /// The team in whose namespace it is.
    pub team: TeamName,
}

impl VmName {
    /// A team's own VM of this number.
    #[must_use]
    pub fn of_team(number: VmNumber, team: TeamName) -> Self {
        Self { number, owner: AccountName::of_teams(), team }
    }

    /// Whether it belongs to its team, and to no account.
    #[must_use]
    pub fn is_of_team(&self) -> bool {
        self.owner.is_of_teams()
    }

    /// What its owner calls it, and its host name inside: `vm-0`, `shared-0`.
    #[must_use]
    pub fn label(&self) -> String {
        let prefix = if self.is_of_team() { "shared" } else { "vm" };
        format!("{prefix}-{}", self.number)
    }

    /// How it is called where its team is known: `vm-0.alice`, `shared-0`.
    #[must_use]
    pub fn short(&self) -> String {
        let label = self.label();
        if self.is_of_team() { label } else { format!("{label}.{}", self.owner) }
    }
}

impl fmt::Display for VmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.short(), self.team)
    }
}

impl FromStr for VmName {
    type Err = VmNameError;

    fn from_str(text: &str) -> Result<Self, VmNameError> {
        let mut parts = text.splitn(4, '.');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(label), Some(owner), Some(team), None) => Ok(Self {
                number: VmNumber::from_label(label).ok_or(VmNameError::Number)?,
                owner: owner.parse()?,
                team: team.parse()?,
            }),
            (Some(label), Some(team), None, None) => {
                let number = VmNumber::from_team_label(label).ok_or(VmNameError::Shape)?;
                Ok(Self::of_team(number, team.parse()?))
            }
            _ => Err(VmNameError::Shape),
        }
    }
}

macro_rules! text_conversions {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = VmNameError;

            fn try_from(text: String) -> Result<Self, VmNameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

text_conversions!(VmId);
text_conversions!(VmName);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_sixteen_lower_case_digits() {
        let id: VmId = "00ff00ff00ff00ff".parse().expect("an id");
        assert_eq!(id.to_string(), "00ff00ff00ff00ff");
        for wrong in
            ["", "00ff", "00FF00FF00FF00FF", "+0ff00ff00ff00ff", "00ff00ff00ff00ff0", "../../../etc/pass"]
        {
            assert_eq!(wrong.parse::<VmId>(), Err(VmNameError::Id), "{wrong}");
        }
        assert_ne!(VmId::random(), VmId::random());
    }

    #[test]
    fn labels_are_canonical() {
        assert_eq!(VmNumber::from_label("vm-0"), Some(VmNumber::FIRST));
        assert_eq!(VmNumber::from_label("vm-4294967295"), Some(VmNumber(u32::MAX)));
        for wrong in
            ["vm-", "vm-00", "vm-01", "vm-+1", "vm--1", "vm-4294967296", "VM-0", "vm-0 ", "vm-٣", "vm", "0"]
        {
            assert_eq!(VmNumber::from_label(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_is_shown_as_members_know_it() {
        let name: VmName = "vm-0.alice.koding".parse().expect("a name");
        assert_eq!((name.label().as_str(), name.to_string().as_str()), ("vm-0", "vm-0.alice.koding"));
        for wrong in ["vm-0", "vm-0.alice", "vm-0.alice.koding.kd.io", "vm-0.alice.koding.", "0.alice.koding"]
        {
            assert!(wrong.parse::<VmName>().is_err(), "{wrong}");
        }
        let teams: VmName = "shared-3.koding".parse().expect("a name");
        assert_eq!((teams.label().as_str(), teams.to_string().as_str()), ("shared-3", "shared-3.koding"));
        assert!(teams.is_of_team() && !name.is_of_team());
        for wrong in
            ["shared-03.koding", "shared-3", "shared-3.alice.koding", "vm-3.shared.koding", "shared-3.root"]
        {
            assert!(wrong.parse::<VmName>().is_err(), "{wrong}");
        }
        assert!(matches!(
            "vm-0.root.koding".parse::<VmName>(),
            Err(VmNameError::Name(NameError::Reserved(_)))
        ));
    }

    proptest! {
        #[test]
        fn texts_round_trip(bits: u64, number: u32) {
            let id = VmId(bits);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            let name = VmName {
                number: VmNumber(number),
                owner: "alice".parse().expect("a name"),
                team: "koding".parse().expect("a name"),
            };
            prop_assert_eq!(VmNumber::from_label(&name.label()), Some(VmNumber(number)));
            let teams = VmName::of_team(name.number, name.team.clone());
            prop_assert_eq!(name.to_string().parse(), Ok(name));
            prop_assert_eq!(VmNumber::from_team_label(&teams.label()), Some(VmNumber(number)));
            prop_assert_eq!(teams.to_string().parse(), Ok(teams));
        }
    }
}
