//! The real binary in a fresh folder, with a real server where one is needed. No VM is started here.

#[cfg(test)]
#[path = "cli/admin.rs"]
mod admin;
#[cfg(test)]
#[path = "cli/backup.rs"]
mod backup;
#[cfg(test)]
#[path = "cli/database.rs"]
mod database;
#[cfg(test)]
#[path = "cli/hostile.rs"]
mod hostile;
#[cfg(test)]
#[path = "cli/offline.rs"]
mod offline;
#[cfg(test)]
#[path = "cli/serve.rs"]
mod serve;
#[cfg(test)]
#[path = "cli/upgrade.rs"]
mod upgrade;
#[cfg(test)]
#[path = "cli/world.rs"]
mod world;
