//! Memory, disk and latency over time, one above the other, as SVG.

use std::path::Path;
use std::time::{Duration, Instant};

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::run::{Report, histogram};

type Curve = (&'static str, RGBColor, Vec<(f64, f64)>);

pub fn draw(report: &Report, path: &Path) {
    let area = SVGBackend::new(path, (1_000, 900)).into_drawing_area();
    area.fill(&WHITE).unwrap();
    let panels = area.split_evenly((3, 1));
    let seconds = |at: Instant| at.duration_since(report.began_at).as_secs_f64();
    let mebibytes = |of: fn(&crate::samples::Sample) -> u64| {
        report.samples.iter().map(|it| (seconds(it.at), of(it) as f64 / 1_048_576.0)).collect()
    };
    let end = report.samples.last().map_or(1.0, |it| seconds(it.at));
    let phases: Vec<_> = report.phases.iter().map(|(name, at)| (*name, seconds(*at))).collect();
    let panel = |number: usize, title, curves: &[Curve]| {
        draw_panel(&panels[number], title, end, &phases, curves);
    };
    panel(0, "memory, MiB", &[("resident", BLUE, mebibytes(|it| it.memory))]);
    panel(1, "disk, MiB", &[("data directory", BLUE, mebibytes(|it| it.disk))]);

    let mut curves = [
        ("p50", BLUE, Vec::new()),
        ("p99", RGBColor(220, 120, 0), Vec::new()),
        ("max", RED, Vec::new()),
    ];
    for second in 0..end as u64 {
        let from = report.began_at + Duration::from_secs(second);
        let latency = histogram(&report.latencies, from, from + Duration::from_secs(1));
        if latency.is_empty() {
            continue;
        }
        for (curve, quantile) in curves.iter_mut().zip([0.5, 0.99, 1.0]) {
            let millis = latency.value_at_quantile(quantile) as f64 / 1_000.0;
            curve.2.push((second as f64, millis));
        }
    }
    panel(2, "latency of the probe, ms", &curves);
    area.present().unwrap();
}

fn draw_panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    end: f64,
    phases: &[(&str, f64)],
    curves: &[Curve],
) {
    let values = curves.iter().flat_map(|(_, _, points)| points).map(|(_, value)| *value);
    let top = values.fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..end, 0.0..top)
        .unwrap();
    chart.configure_mesh().x_desc("seconds").light_line_style(WHITE).draw().unwrap();
    for (number, (name, at)) in phases.iter().enumerate() {
        let line = [(*at, 0.0), (*at, top)];
        chart.draw_series(LineSeries::new(line, RGBColor(150, 150, 150))).unwrap();
        // On two levels, for phases that are shorter than their names.
        let height = top * if number % 2 == 0 { 0.98 } else { 0.91 };
        let label = Text::new(format!(" {name}"), (*at, height), ("sans-serif", 13));
        chart.draw_series([label]).unwrap();
    }
    for (name, colour, points) in curves {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour))
            .unwrap()
            .label(*name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 15, y)], *colour));
    }
    // One curve is what the title says.
    if curves.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperMiddle)
            .background_style(WHITE)
            .border_style(BLACK)
            .draw()
            .unwrap();
    }
}
