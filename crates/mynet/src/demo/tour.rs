//! How the story is told: step by step to a person, or as one object to a program.
//!
//! A step has a title, the sentence that was promised, and what happened, with its numbers. A terminal sees it as it happens,
//! in colours and with a spinner; anything else gets the same text plain; with `--json` nothing is printed before the end.

use std::{io::IsTerminal, time::Instant};

use console::style;
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::output::{self, line};

/// Who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listener {
    /// A person at a terminal.
    Terminal,
    /// A file, a pipe, a log.
    Text,
    /// A program, which gets the object at the end.
    Program,
}

/// The story so far.
pub(super) struct Tour {
    listener: Listener,
    began: Instant,
    told: Told,
    step_began: Instant,
    spinner: Option<ProgressBar>,
}

/// The object of `mynet demo --json`.
#[derive(Debug, Default, Serialize)]
struct Told {
    /// Whether everything held.
    held: bool,
    /// How long it took.
    seconds: f64,
    steps: Vec<Step>,
    nodes: Vec<Value>,
}

/// One step.
#[derive(Debug, Serialize)]
struct Step {
    title: String,
    promised: &'static str,
    happened: Vec<String>,
    numbers: Map<String, Value>,
    seconds: f64,
}

impl Tour {
    /// Nothing is told yet.
    pub(super) fn new(json: bool) -> Self {
        let listener = match (json, std::io::stdout().is_terminal()) {
            (true, _) => Listener::Program,
            (false, true) => Listener::Terminal,
            (false, false) => Listener::Text,
        };
        let now = Instant::now();
        Self { listener, began: now, told: Told::default(), step_began: now, spinner: None }
    }

    /// Begins the next step: what it is, and what was promised of it.
    pub(super) fn step(&mut self, title: &str, promised: &'static str) -> anyhow::Result<()> {
        self.end_step();
        let number = self.told.steps.len() + 1;
        match self.listener {
            Listener::Terminal => {
                line(&format!("\n{} {}", style(format!("{number:>2}")).cyan().bold(), style(title).bold()))?;
                line(&format!("   {}", style(format!("Promised: {promised}")).dim().italic()))?;
                let spinner = ProgressBar::new_spinner().with_prefix("  ");
                spinner.enable_steady_tick(std::time::Duration::from_millis(100));
                self.spinner = Some(spinner);
            }
            Listener::Text => {
                line(&format!("\n{number:>2} {title}"))?;
                line(&format!("   Promised: {promised}"))?;
            }
            Listener::Program => {}
        }
        self.step_began = Instant::now();
        let (happened, numbers) = (Vec::new(), Map::new());
        self.told.steps.push(Step { title: title.to_owned(), promised, happened, numbers, seconds: 0.0 });
        Ok(())
    }

    /// Says what happened.
    pub(super) fn tell(&mut self, text: &str) -> anyhow::Result<()> {
        match (self.listener, &self.spinner) {
            (Listener::Program, _) => {}
            (Listener::Terminal, Some(spinner)) => {
                spinner.suspend(|| line(&format!("   {} {text}", style("✓").green())))?;
            }
            (Listener::Terminal | Listener::Text, _) => line(&format!("   {text}"))?,
        }
        if let Some(step) = self.told.steps.last_mut() {
            step.happened.push(text.to_owned());
        }
        Ok(())
    }

    /// Keeps a number of this step for programs.
    pub(super) fn number(&mut self, name: &str, value: impl Into<Value>) {
        if let Some(step) = self.told.steps.last_mut() {
            step.numbers.insert(name.to_owned(), value.into());
        }
    }

    /// A node that takes part, for programs.
    pub(super) fn node(&mut self, node: Value) {
        self.told.nodes.push(node);
    }

    /// Ends the story, which `held` or broke off in its last step.
    pub(super) fn end(&mut self, held: bool) -> anyhow::Result<()> {
        self.end_step();
        self.told.held = held;
        self.told.seconds = self.began.elapsed().as_secs_f64();
        let (steps, seconds) = (self.told.steps.len(), self.told.seconds);
        match self.listener {
            Listener::Program => output::object(&self.told),
            Listener::Terminal | Listener::Text if held => {
                line(&format!("\nEverything held: {steps} steps in {seconds:.1} s."))
            }
            Listener::Terminal | Listener::Text => line(&format!("\nStep {steps} did not hold.")),
        }
    }

    /// Says where to go on, to people.
    pub(super) fn aside(&self, text: &str) -> anyhow::Result<()> {
        if self.listener == Listener::Program { Ok(()) } else { line(text) }
    }

    fn end_step(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        if let Some(step) = self.told.steps.last_mut() {
            step.seconds = self.step_began.elapsed().as_secs_f64();
        }
    }
}
