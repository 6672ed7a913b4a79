//! Metrics as text: in the exposition format of Prometheus, and as a page for people.

use std::fmt::Write;

use ringfs_proto::metrics::{Kind, Metric};

/// The exposition format of Prometheus, version 0.0.4.
pub fn render(metrics: &[Metric]) -> String {
    let mut text = String::new();
    let mut last = "";
    for metric in metrics {
        if metric.name != last {
            let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
            // Writing to a string cannot fail.
            let _ = write!(text, "# HELP {0} {1}\n# TYPE {0} {2}\n", metric.name, escape(metric.help), kind);
            last = metric.name;
        }
        text.push_str(metric.name);
        for (index, (name, value)) in metric.labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(text, "{open}{name}=\"{}\"", escape(value).replace('"', "\\\""));
        }
        if !metric.labels.is_empty() {
            text.push('}');
        }
        let _ = writeln!(text, " {}", metric.value);
    }
    text
}

/// A page with the health and all values.
pub fn page(role: &str, health: &Result<(), String>, metrics: &[Metric]) -> String {
    let state = match health {
        Ok(()) => "<p class=ok>healthy</p>".to_owned(),
        Err(reason) => format!("<p class=bad>{}</p>", html(reason)),
    };
    let mut rows = String::new();
    for metric in metrics {
        let labels: Vec<String> =
            metric.labels.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let _ = write!(
            rows,
            "<tr><td title=\"{}\">{}</td><td>{}</td><td class=n>{}</td></tr>",
            html(metric.help),
            html(metric.name),
            html(&labels.join(", ")),
            metric.value
        );
    }
    format!(
        "<!doctype html><meta charset=utf-8><title>RingFS {role}</title><style>body{{font:15px system-ui;margin:2em;max-width:60em}}\
         table{{border-collapse:collapse}}td{{padding:.2em .8em;border-bottom:1px solid #ddd}}.n{{text-align:right;font-variant-numeric:tabular-nums}}\
         .ok{{color:#176f2c}}.bad{{color:#b00020}}</style><h1>RingFS {role}</h1>{state}\
         <p><a href=/metrics>metrics</a> &middot; <a href=/healthz>health</a></p><table>{rows}</table>"
    )
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_one_name_share_their_help_and_labels_are_escaped() {
        let metrics = [
            Metric::counter("calls_total", "Calls.", 3).with_label("op", "Stat"),
            Metric::counter("calls_total", "Calls.", 4).with_label("op", "a\"b\\c\nd").with_label("x", "y"),
            Metric::gauge("free_bytes", "Room.", 0.5),
        ];
        let expected = "# HELP calls_total Calls.\n# TYPE calls_total counter\ncalls_total{op=\"Stat\"} 3\n\
                        calls_total{op=\"a\\\"b\\\\c\\nd\",x=\"y\"} 4\n# HELP free_bytes Room.\n# TYPE free_bytes gauge\nfree_bytes 0.5\n";
        assert_eq!(render(&metrics), expected);
    }

    #[test]
    fn the_page_escapes_what_it_shows() {
        let page = page("namenode", &Err("<b>".to_owned()), &[]);
        assert!(page.contains("&lt;b&gt;") && !page.contains("<b>"));
    }
}
