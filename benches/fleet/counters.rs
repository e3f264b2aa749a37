//! What the store says of itself.

use std::collections::HashMap;
use std::error::Error;

use redis::{Connection, cmd};

/// What something cost.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    pub(super) exchanges: f64,
    /// Bytes that came to the server, and that it sent.
    pub(super) there: f64,
    pub(super) back: f64,
    /// Of the server's processor, user and system.
    pub(super) micros: f64,
}

pub(super) struct Counters {
    connection: Connection,
    /// What it costs to ask.
    asking: Cost,
}

impl Counters {
    pub(super) fn of(connection: Connection) -> Result<Self, Box<dyn Error>> {
        let mut counters = Counters { connection, asking: Cost::default() };
        counters.read()?;
        let (before, after) = (counters.read()?, counters.read()?);
        counters.asking = after.less(before);
        Ok(counters)
    }

    /// What `work` costs.
    pub(super) fn cost(
        &mut self,
        work: impl FnOnce() -> Result<(), Box<dyn Error>>,
    ) -> Result<Cost, Box<dyn Error>> {
        let before = self.read()?;
        work()?;
        Ok(self.read()?.less(before).less(self.asking))
    }

    fn read(&mut self) -> Result<Cost, Box<dyn Error>> {
        let text: String = cmd("INFO").arg("everything").query(&mut self.connection)?;
        let all: HashMap<&str, &str> =
            text.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let number =
            |name: &str| all.get(name).and_then(|value| value.parse::<f64>().ok()).ok_or("it does not say");
        let calls = |name: &str| {
            let of = all.get(name).and_then(|value| value.strip_prefix("calls="));
            of.and_then(|rest| rest.split(',').next()?.parse::<f64>().ok()).unwrap_or(0.0)
        };
        Ok(Cost {
            exchanges: calls("cmdstat_evalsha") + calls("cmdstat_eval"),
            there: number("total_net_input_bytes")?,
            back: number("total_net_output_bytes")?,
            micros: 1e6 * (number("used_cpu_user")? + number("used_cpu_sys")?),
        })
    }
}

impl Cost {
    fn less(self, other: Cost) -> Cost {
        Cost {
            exchanges: self.exchanges - other.exchanges,
            there: self.there - other.there,
            back: self.back - other.back,
            micros: self.micros - other.micros,
        }
    }
}
