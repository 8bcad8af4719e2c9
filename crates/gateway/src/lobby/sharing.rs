//! Carries out the commands about VMs that are shared.

use berth_control::{Error, Kind, ShareInfo, ShareTerms};
use berth_model::{AccountName, VmName};
use serde_json::json;
use time::OffsetDateTime;

use super::{
    answer::{Answer, Failure},
    config,
    desk::Desk,
    list,
    sharing_words::{End, Sharing},
};
use crate::text::quoted;

impl Desk<'_> {
    pub(super) async fn carry_out_sharing(&self, sharing: Sharing) -> Result<Answer, Failure> {
        match sharing {
            Sharing::Share { vm, account, sudo, end } => {
                let now = OffsetDateTime::now_utc();
                let until = end.map(|end| match end {
                    End::After(time) => now + time,
                    End::At(moment) => moment,
                });
                self.share(&vm, &account, ShareTerms { sudo, until }).await
            }
            Sharing::Unshare { vm, account } => self.unshare(&vm, &account).await,
            Sharing::List(vm) => self.list_shares(vm.as_deref()).await,
            Sharing::Accept(vm) => self.accept(&vm).await,
            Sharing::Leave(vm) => self.leave(&vm).await,
        }
    }

    /// The names of what is shared with the person, and of what they were asked to share.
    pub(super) async fn names_of_shared(&self) -> Vec<String> {
        let shared = self.acting.shared_with_me().await.unwrap_or_default();
        shared.iter().map(|share| share.vm.short()).collect()
    }

    async fn share(&self, vm: &str, account: &str, terms: ShareTerms) -> Result<Answer, Failure> {
        let vm = self.vm(Some(vm)).await?;
        let name = &vm.name;
        let account = somebody(account)?;
        let share = self.acting.share_vm(name, &account, terms).await;
        let share = share.map_err(|error| self.said_of_sharing(error, name))?;
        let label = name.label();
        let text = match share.accept_by {
            Some(by) => {
                format!("{account} was asked to share {label}, and can accept until {}.\n", list::minute(by))
            }
            None => format!(
                "{account} shares {label}, now on other terms. Connections that were open have ended.\n"
            ),
        };
        self.done(text, &json!(share))
    }

    async fn unshare(&self, vm: &str, account: &str) -> Result<Answer, Failure> {
        let vm = self.vm(Some(vm)).await?;
        let account = somebody(account)?;
        let share = self.acting.unshare_vm(&vm.name, &account).await;
        let share = share.map_err(|error| self.said_of_sharing(error, &vm.name))?;
        let text =
            format!("{} is not shared with {account} any more. Their home in it stays.\n", vm.name.label());
        self.done(text, &json!(share))
    }

    async fn list_shares(&self, asked: Option<&str>) -> Result<Answer, Failure> {
        let vms = match asked {
            Some(_) => vec![self.vm(asked).await?],
            None => self.vms().await?,
        };
        let mut shares = vec![];
        for vm in &vms {
            let of_vm = self.acting.shares(&vm.name).await;
            shares.extend(of_vm.map_err(|error| self.said_of_sharing(error, &vm.name))?);
        }
        self.done(list::shares(&shares, self.form()), &json!({ "shares": shares }))
    }

    async fn accept(&self, asked: &str) -> Result<Answer, Failure> {
        let vm = self.shared_vm(asked).await?.vm;
        let share = self.acting.accept_share(&vm).await;
        let share = share.map_err(|error| self.said_of_sharing(error, &vm))?;
        let text = format!(
            "You are in {} {} sudo now: ssh {}\n",
            vm.short(),
            if share.sudo { "with" } else { "without" },
            config::direct(self.seat, &vm)
        );
        self.done(text, &json!(share))
    }

    async fn leave(&self, asked: &str) -> Result<Answer, Failure> {
        let vm = self.shared_vm(asked).await?.vm;
        let share = self.acting.leave_share(&vm).await;
        let share = share.map_err(|error| self.said_of_sharing(error, &vm))?;
        self.done(format!("{} is not shared with you any more.\n", vm.short()), &json!(share))
    }

    /// The VM of somebody else that is meant, by any of its names.
    async fn shared_vm(&self, asked: &str) -> Result<ShareInfo, Failure> {
        let shared = self.acting.shared_with_me().await?;
        let domains = &self.seat.control.settings().domains;
        let meant =
            domains.resolve(asked).or_else(|| domains.resolve(&format!("{asked}.{}", domains.vm_domain())));
        let found = shared.iter().find(|share| Some(&share.vm) == meant.as_ref()).cloned();
        found.ok_or_else(|| {
            let all: Vec<String> = shared.iter().map(|share| share.vm.short()).collect();
            let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
            let asked = quoted(asked);
            let text = format!("There is no VM {asked} that is shared with you. Shared with you: {all}.");
            Failure::new(Kind::Missing, text)
        })
    }

    /// What control says of sharing, where it says it to operators.
    fn said_of_sharing(&self, error: Error, vm: &VmName) -> Failure {
        let kind = error.kind();
        match error {
            Error::NoSuchAccount(account) => {
                Failure::new(kind, format!("There is nobody called {account} here."))
            }
            Error::OwnVm(vm) => Failure::new(kind, format!("{} is yours already.", vm.label())),
            error => self.said(error, vm),
        }
    }
}

fn somebody(name: &str) -> Result<AccountName, Failure> {
    name.to_ascii_lowercase()
        .parse()
        .map_err(|wrong: berth_model::NameError| Failure::new(Kind::Invalid, wrong.to_string()))
}
