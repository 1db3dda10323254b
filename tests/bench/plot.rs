//! The figures as SVG: rate and latency over concurrency against the peers, and cost against the
//! number of records.

use std::path::Path;

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::figures::Spread;
use crate::load::Window;
use crate::rounds::{Book, CONCURRENCY, concurrent};
use crate::stage::Subject;

/// A curve: its name, its colour, its points.
type Curve = (String, RGBColor, Vec<(f64, f64)>);

const ORANGE: RGBColor = RGBColor(220, 120, 0);
const GREEN: RGBColor = RGBColor(0, 140, 60);
const GREY: RGBColor = RGBColor(120, 120, 120);
const VIOLET: RGBColor = RGBColor(130, 60, 180);

/// Rate, p50 and p99 over the number of calls in flight.
pub fn concurrency(book: &Book, path: &Path) -> anyhow::Result<()> {
    let who = [
        (Subject::Onced, "reserve", "onced, Reserve", BLUE),
        (Subject::Onced, "noop", "onced, the no-op call", GREY),
        (Subject::Redis, "reserve", "Redis, SET NX PX", RED),
        (Subject::Postgres, "reserve", "PostgreSQL, INSERT", GREEN),
        (Subject::Etcd, "reserve", "etcd, Txn", ORANGE),
    ];
    let curves = |figure: fn(&Window) -> f64| -> Vec<Curve> {
        let curve = |(subject, workload, name, colour): (_, _, &str, _)| {
            let points = CONCURRENCY.iter().filter_map(|calls| {
                let entry = (subject, concurrent(subject, workload, *calls));
                Some((f64::from(*calls), Spread::of(book.figures(entry, figure))?.median))
            });
            (name.to_owned(), colour, points.collect())
        };
        who.into_iter().map(curve).collect()
    };
    let area = SVGBackend::new(path, (1_000, 1_050)).into_drawing_area();
    area.fill(&WHITE)?;
    let panels = area.split_evenly((3, 1));
    let x = "calls in flight";
    panel(&panels[0], "answers per second, each synced", x, &curves(|it| it.rate))?;
    panel(&panels[1], "p50, ms", x, &curves(|it| it.p50_micros / 1e3))?;
    panel(&panels[2], "p99, ms", x, &curves(|it| it.p99_micros / 1e3))?;
    area.present()?;
    Ok(())
}

/// Rates over the number of records.
pub fn records(rates: &[(String, Vec<(f64, f64)>)], path: &Path) -> anyhow::Result<()> {
    let colours = [BLUE, VIOLET, GREEN, ORANGE];
    let curves: Vec<Curve> = rates
        .iter()
        .zip(colours)
        .map(|((name, points), colour)| (name.clone(), colour, points.clone()))
        .collect();
    let area = SVGBackend::new(path, (1_000, 400)).into_drawing_area();
    area.fill(&WHITE)?;
    panel(&area, "per second, 4 × 64", "records in the store", &curves)?;
    area.present()?;
    Ok(())
}

/// One chart with both axes logarithmic.
fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    x: &str,
    curves: &[Curve],
) -> anyhow::Result<()> {
    let points = || curves.iter().flat_map(|(_, _, points)| points.iter().copied());
    let range = |of: fn((f64, f64)) -> f64| {
        let (min, max) =
            points().map(of).fold((f64::MAX, 0.0_f64), |(min, max), it| (min.min(it), max.max(it)));
        (min * 0.8)..(max * 1.25)
    };
    // Room for the legend beside the curves.
    let across = range(|it| it.0);
    let across = across.start..across.end * (across.end / across.start).powf(0.3);
    if points().next().is_none() {
        return Err(anyhow!("there is nothing to draw"));
    }
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(80)
        .build_cartesian_2d(across.log_scale(), range(|it| it.1).log_scale())?;
    let number = |number: &f64| match *number {
        0.0..1.0 => format!("{number}"),
        number => crate::figures::thousands(number),
    };
    chart
        .configure_mesh()
        .x_desc(x)
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .light_line_style(WHITE)
        .draw()?;
    for (name, colour, points) in curves {
        chart
            .draw_series(
                LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3),
            )?
            .label(name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 15, y)], *colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    Ok(())
}
