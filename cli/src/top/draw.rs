//! How `top` is drawn: from a view, nothing else.

use std::collections::VecDeque;
use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table};

use super::view::{NodeRate, OperationRate, UserRate, View};

/// Looks that are remembered for the small curves.
const HISTORY_MAX: usize = 200;
/// Rows of operations and users, header and frame included.
const LISTS_ROWS: u16 = 12;

/// What was moved and asked in the last looks.
#[derive(Debug, Default)]
pub struct History {
    read: VecDeque<u64>,
    write: VecDeque<u64>,
    calls: VecDeque<u64>,
}

impl History {
    /// Remembers a look.
    pub fn add(&mut self, view: &View) {
        let values = [view.read_bytes_per_s, view.write_bytes_per_s, view.calls_per_s];
        for (kept, value) in [&mut self.read, &mut self.write, &mut self.calls].into_iter().zip(values) {
            kept.push_back(value as u64);
            if kept.len() > HISTORY_MAX {
                kept.pop_front();
            }
        }
    }
}

/// Draws a look, or says why there is none.
pub fn draw(frame: &mut Frame<'_>, uri: &str, view: Result<&View, &str>, history: &History) {
    let view = match view {
        Ok(view) => view,
        Err(reason) => {
            let lines = vec![Line::from(format!("RingFS {uri}").bold()), Line::from(reason.to_owned().red())];
            return frame.render_widget(Paragraph::new(lines), frame.area());
        }
    };
    let rows = [
        Constraint::Length(head_rows(view)),
        Constraint::Length(4),
        Constraint::Length(LISTS_ROWS),
        Constraint::Min(3),
    ];
    let [head, curves, lists, nodes] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(head_lines(uri, view)), head);
    draw_curves(frame, curves, view, history);
    let halves = [Constraint::Percentage(46), Constraint::Percentage(54)];
    let [operations, users] = Layout::horizontal(halves).areas(lists);
    frame.render_widget(operation_table(&view.operations), operations);
    frame.render_widget(user_table(&view.users), users);
    draw_nodes(frame, nodes, view.datanodes.as_deref());
}

fn head_rows(view: &View) -> u16 {
    if view.safe_mode.is_empty() { 3 } else { 4 }
}

fn head_lines(uri: &str, view: &View) -> Vec<Line<'static>> {
    let uptime = HumanDuration(Duration::from_secs(view.uptime_s));
    let mut lines = vec![Line::from(vec![
        format!("RingFS {uri}").bold(),
        Span::raw(format!("   namenode up {uptime}   rates over {:.1} s   q ends", view.interval_s)),
    ])];
    if !view.safe_mode.is_empty() {
        lines.push(Line::from(format!("SAFE MODE, changes are refused: {}", view.safe_mode).red().bold()));
    }
    let used = share(view.used_bytes as f64, view.capacity_bytes as f64);
    lines.push(Line::from(format!(
        "{} of {} used ({:.0} %)   {} files, {} open   {} blocks",
        HumanBytes(view.used_bytes),
        HumanBytes(view.capacity_bytes),
        used * 100.0,
        view.files,
        view.open_files,
        view.blocks
    )));
    let count = |count: u64, name: &str, colour: Color| {
        let style =
            if count > 0 { Style::new().fg(colour).add_modifier(Modifier::BOLD) } else { Style::new() };
        Span::styled(format!("{count} {name}   "), style)
    };
    lines.push(Line::from(vec![
        count(view.under_replicated_blocks, "under-replicated", Color::Yellow),
        count(view.missing_blocks, "missing", Color::Red),
        count(view.corrupt_blocks, "corrupt", Color::Red),
        count(view.copied_blocks, "being copied", Color::Cyan),
    ]));
    lines
}

fn draw_curves(frame: &mut Frame<'_>, area: Rect, view: &View, history: &History) {
    let thirds = [Constraint::Ratio(1, 3); 3];
    let areas: [Rect; 3] = Layout::horizontal(thirds).areas(area);
    let copies = if view.copy_bytes_per_s > 0.0 {
        format!(", copies {}", speed(view.copy_bytes_per_s))
    } else {
        String::new()
    };
    let curves = [
        (format!(" read {} ", speed(view.read_bytes_per_s)), &history.read, Color::Green),
        (format!(" written {}{copies} ", speed(view.write_bytes_per_s)), &history.write, Color::Blue),
        (format!(" {} calls/s ", rate(view.calls_per_s)), &history.calls, Color::Magenta),
    ];
    for ((title, values, colour), area) in curves.into_iter().zip(areas) {
        // The newest are on the right.
        let room = usize::from(area.width.saturating_sub(2));
        let newest: Vec<u64> = values.iter().skip(values.len().saturating_sub(room)).copied().collect();
        let curve = Sparkline::default().block(Block::bordered().title(title)).data(newest).style(colour);
        frame.render_widget(curve, area);
    }
}

fn header<const N: usize>(names: [&'static str; N]) -> Row<'static> {
    Row::new(names).style(Style::new().add_modifier(Modifier::DIM))
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).right_aligned())
}

fn operation_table(operations: &[OperationRate]) -> Table<'static> {
    let rows = operations.iter().map(|one| {
        let errors = if one.errors_per_s > 0.0 { rate(one.errors_per_s) } else { String::new() };
        Row::new([Cell::from(one.operation.clone()), right(rate(one.calls_per_s)), right(errors).red()])
    });
    let widths = [Constraint::Min(16), Constraint::Length(9), Constraint::Length(9)];
    Table::new(rows, widths)
        .header(header(["operation", "  calls/s", " errors/s"]))
        .block(Block::bordered().title(" Operations of the namenode "))
}

fn user_table(users: &[UserRate]) -> Table<'static> {
    let rows = users.iter().map(|one| {
        let refused = if one.refused_per_s > 0.0 { rate(one.refused_per_s) } else { String::new() };
        let name = if one.user.is_empty() { "(all others)".to_owned() } else { one.user.clone() };
        Row::new([
            Cell::from(name),
            right(rate(one.calls_per_s)),
            right(format!("{:.0}", one.waited_us)),
            right(refused).red(),
            right(one.connections.to_string()),
        ])
    });
    let widths = [
        Constraint::Min(12),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(6),
    ];
    Table::new(rows, widths)
        .header(header(["user", "  calls/s", "  wait µs", "refused/s", " conns"]))
        .block(Block::bordered().title(" Busiest users "))
}

fn draw_nodes(frame: &mut Frame<'_>, area: Rect, nodes: Option<&[NodeRate]>) {
    let Some(nodes) = nodes else {
        let text = "Only superusers may ask for the datanodes.";
        let block = Block::bordered().title(" Datanodes ");
        return frame.render_widget(Paragraph::new(text).block(block), area);
    };
    let rows = nodes.iter().map(node_row);
    let widths = [
        Constraint::Min(21),
        Constraint::Length(6),
        Constraint::Length(13),
        Constraint::Length(13),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Min(18),
    ];
    let troubled = nodes.iter().filter(|node| !node.trouble.is_empty()).count();
    let title = match troubled {
        0 => format!(" {} datanodes ", nodes.len()),
        _ => format!(" {} datanodes, {troubled} in trouble ", nodes.len()),
    };
    let table = Table::new(rows, widths)
        .header(header([
            "datanode",
            "state",
            "         read",
            "      written",
            "active",
            "  used",
            "trouble",
        ]))
        .block(Block::bordered().title(title));
    frame.render_widget(table, area);
}

fn node_row(node: &NodeRate) -> Row<'static> {
    let colour = match (node.state, node.trouble.is_empty()) {
        ("lost", _) => Style::new().fg(Color::Red),
        (_, false) => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    };
    Row::new([
        Cell::from(node.address.clone()),
        Cell::from(node.state),
        right(speed(node.read_bytes_per_s)),
        right(speed(node.write_bytes_per_s)),
        right(node.active.to_string()),
        right(format!("{:.0} %", node.used_share * 100.0)),
        Cell::from(node.trouble.clone()),
    ])
    .style(colour)
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn speed(bytes_per_s: f64) -> String {
    format!("{}/s", HumanBytes(bytes_per_s as u64))
}

/// Few calls to a tenth, many as whole numbers.
fn rate(per_s: f64) -> String {
    if per_s < 10.0 { format!("{per_s:.1}") } else { format!("{per_s:.0}") }
}
