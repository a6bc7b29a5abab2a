//! Parses the text of a line-up into a [`Lineup`], or into every fault of the text.

use std::path::Path;

use toml::de::DeTable;

use super::fields::Field;
use super::outputs::Outputs;
use super::report::Report;
use super::sections::{SETTINGS, section, unknown_sections};
use super::settings::Settings;
use super::station::StationParser;
use super::{
    Announce, ConfigError, DIRECTORY, Lineup, Media, SecuritySpec, StationSpec, World, access, live, outputs,
    publish, reel,
};
use crate::media::StationId;
use crate::tls::Security;

pub(super) fn lineup(text: &str, file: &Path, world: &World) -> Result<Lineup, ConfigError> {
    let mut report = Report::new(file, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        report.syntax(errors);
        return report.finish(Lineup {
            directory: DIRECTORY,
            reel: reel::default(world),
            rtsp: None,
            http: None,
            hosts: Vec::new(),
            announce: Announce::default(),
            watch: false,
            security: SecuritySpec::default(),
            access: None,
            stations: Vec::new(),
            publish: None,
            interfaces: Vec::new(),
        });
    }
    let root = document.get_ref();
    unknown_sections(root, &mut report);

    let (directory, directory_security) = match section(root, "directory", &mut report) {
        None => (Field::Absent, Security::Plain),
        Some(section) => {
            section.unknown_keys(&mut report, &["listen", "tls"], "[directory]");
            let listen = section.socket(&mut report, "listen", &DIRECTORY.to_string());
            (listen, section.security(&mut report))
        }
    };
    let mut defaults = Settings::without_a_key(world);
    if let Some(section) = section(root, "defaults", &mut report) {
        section.unknown_keys(&mut report, &SETTINGS, "[defaults]");
        defaults = Settings::read(&section, &mut report, world).or(&defaults);
    }
    let folder = file.parent().unwrap_or(Path::new(""));
    let reel = match section(root, "reel", &mut report) {
        None => reel::default(world),
        Some(section) => reel::read(&section, &mut report, folder, world),
    };
    let directory = directory.or(Field::Is(DIRECTORY)).value().unwrap_or(DIRECTORY);
    let outputs = outputs::read(root, &mut report, (directory, directory_security), folder, world);
    let Outputs { rtsp, http, hosts, announce, security } = outputs;
    let access = access::file(root, &mut report, folder, world);
    let watch = section(root, "reload", &mut report).is_some_and(|section| {
        section.unknown_keys(&mut report, &["watch"], "[reload]");
        let fix = "choose true or false (whether the line-up is reloaded whenever its file has changed)";
        section.flag(&mut report, "watch", fix).value().unwrap_or(false)
    });
    let open = rtsp.map(|listen| !listen.ip().is_loopback());
    let mut parser = StationParser { report, world, folder, defaults, known: Vec::new(), open };
    let stations = parser.stations(root);
    access::refuse_leaks(&stations, &mut parser.report);
    super::security::refuse_without_keys(&stations, (directory, directory_security), &mut parser.report);
    let own = live::OwnAddresses { rtsp, http, hosts: &hosts, world };
    live::refuse_loops(&stations, &own, &mut parser.report);
    let defaults = parser.defaults.clone();
    let publish = publish::read(root, &mut parser.report, open, &stations, world.state.as_deref(), |group| {
        let media = Media::Films(Vec::new());
        defaults.station(StationId(0), String::new(), media, group, 0)
    });
    access::refuse_without_file(&stations, publish.as_ref(), access.as_deref(), &mut parser.report);
    // Those that have faults of their own are known all the same, and those that publishing may make.
    let made = publish.iter().flat_map(|publish| publish.ids.clone()).map(StationId);
    let known: Vec<StationId> = parser.known.iter().filter_map(|known| known.id).chain(made).collect();
    refuse_unknown(&stations, &known, &mut parser.report);
    let interfaces = world.interfaces.clone();
    parser.report.finish(Lineup {
        directory,
        reel,
        rtsp,
        http,
        hosts,
        announce,
        security,
        access,
        watch,
        stations,
        publish,
        interfaces,
    })
}

/// Reports each mosaic that names a station which the line-up lacks.
fn refuse_unknown(stations: &[StationSpec], known: &[StationId], report: &mut Report<'_>) {
    for spec in stations {
        let all = spec.at.iter().map(|timed| &timed.media).chain([&spec.media]);
        for id in all.flat_map(Media::mosaic).filter(|id| !known.contains(id)) {
            let name = &spec.name;
            let sentence = format!(
                "station \"{name}\": media shows station {id}, which does not exist; name one that does"
            );
            report.fault_on(spec.line, sentence);
        }
    }
}
