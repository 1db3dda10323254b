//! Programs that share nothing with onced, which not every machine has.

use std::process::Command;

/// The tool that a variable names, or else the one on the PATH, if it runs.
pub fn tool(variable: &str, name: &str, probe: &[&str]) -> Result<String, String> {
    let program = std::env::var(variable).unwrap_or_else(|_| name.to_owned());
    match Command::new(&program).args(probe).output() {
        Ok(output) if output.status.success() => Ok(program),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{program} does not do: {}", said.lines().last().unwrap_or_default()))
        }
        Err(error) => {
            Err(format!("{program} cannot be run ({error}); {variable} can name another"))
        }
    }
}
