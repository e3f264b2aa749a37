//! Whole configurations, from text to [`Config`] and back.

use std::fs;

use serde_json::Value;

use super::*;

mod docs;
mod files;

/// Checks one text, as if from a file called `name`.
fn accept_named(name: &str, text: &str) -> Result<Loaded, Errors> {
    accept(&[source::File { name: name.to_owned(), text: text.to_owned() }], &Environment::default())
}

fn accept_text(text: &str) -> Result<Loaded, Errors> {
    accept_named("config.yaml", text)
}

/// The files of a corpus below the root of the package: path and text, in the order of their names.
fn corpus(directory: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut paths: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// Every file that must load: the corpus and the examples of the strategies that exist.
fn good() -> Vec<(PathBuf, String)> {
    let mut all = corpus("tests/config/valid");
    assert_eq!(all.len(), 17);
    all.extend(corpus("examples/fleet"));
    all.extend(corpus("examples/pinned"));
    all.extend(corpus("examples/bandit"));
    all.extend(corpus("examples/ab"));
    all.extend(corpus("examples/shadow"));
    all.extend(corpus("examples/canary"));
    all.extend(corpus("examples/staged"));
    all.extend(corpus("examples/switch"));
    all.extend(corpus("examples/rolling"));
    assert_eq!(all.len(), 27);
    all
}

#[test]
fn the_smallest_file_has_all_defaults() {
    let loaded = accept_text("models: {m: {variants: {v1: {endpoint: \"http://127.0.0.1:8001\"}}}}").unwrap();
    let config = &loaded.config;
    assert_eq!(config.listen, Listen::Tcp(([0, 0, 0, 0], 9000).into()));
    assert_eq!(config.admin, ([127, 0, 0, 1], 9900).into());
    assert_eq!(config.health, ([0, 0, 0, 0], 9901).into());
    assert_eq!(config.workers.get(), 1);
    assert_eq!(&*config.default, "m");
    assert_eq!(config.models[0].strategy, Strategy::pinned(0));
    assert_eq!(config.models[0].force, Force::Nobody);
    assert_eq!(config.limits.message, Size(64 << 20));
    assert_eq!(config.limits.connection_age, None);
    assert_eq!(config.drain.grace, Duration::from_secs(25));
    assert_eq!(config.telemetry.sample, Percent::ONE);
    assert!(config.telemetry.keep_errors);
    assert_eq!(loaded.warnings, []);
    assert_eq!(config.revision.len(), 12);
}

#[test]
fn good_files_load_and_say_the_same_when_written_out() {
    let environment = Environment { cores: NonZeroUsize::new(3).unwrap(), ..Environment::default() };
    for (path, text) in good() {
        let files = [source::File { name: path.display().to_string(), text }];
        let loaded = accept(&files, &environment).unwrap_or_else(|errors| panic!("{errors}"));
        let mut shown = effective(&loaded.config);
        let secrets = [("metadata/x-role", "tester"), ("parameter/debug", "true")];
        for (at, value) in secrets {
            if let Some(hidden) = shown.pointer_mut(&format!("/models/fraud/force/match/{at}")) {
                assert_eq!(hidden, HIDDEN);
                *hidden = Value::from(value);
            }
        }
        let written = serde_json::to_string_pretty(&shown).unwrap();
        let again = accept_text(&written).unwrap_or_else(|errors| panic!("{written}\n{errors}"));
        let mut again = (*again.config).clone();
        again.revision = Arc::clone(&loaded.config.revision);
        assert_eq!(again, *loaded.config, "{}", path.display());
    }
}

#[test]
fn every_key_means_what_it_says() {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid/every-key.yaml"));
    let config = accept_text(&text.unwrap()).unwrap().config;
    assert!(config.reuse_port);
    assert_eq!(&*config.default, "fraud");
    assert_eq!(&*config.services["tensorflow.serving.PredictionService"], "ranker");
    let fraud = config.model("fraud").unwrap();
    let [v1, v2, v3, _] = &fraud.variants[..] else { panic!("{fraud:?}") };
    assert_eq!(v1.version.as_deref(), Some("1.4.0"));
    let tcp = |host: &str, port| Address::Tcp { host: host.into(), port };
    let here = Endpoint { address: tcp("127.0.0.1", 8001), hop: false, tls: None };
    let far = Endpoint { address: tcp("fraud-next.models.svc", 9000), hop: true, tls: None };
    let told = Endpoint { address: tcp("fd00::2", 9000), hop: false, tls: None };
    assert_eq!(v1.endpoints, [here]);
    let pattern = |text: &str| crate::tls::name::Pattern::parse(text).unwrap();
    let towards = |ca: &str, name: &str, allow: &str, pair: [&str; 2]| ClientTls {
        ca: Some(ca.into()),
        pair: Some(pair.map(PathBuf::from).into()),
        server_name: Some(name.into()),
        allow: vec![pattern(allow)],
    };
    let pair = ["/etc/tls/tls.crt", "/etc/tls/tls.key"];
    let usual = Arc::new(towards("/etc/tls/ca.crt", "fraud.svc", "fraud.svc", pair));
    let own = Arc::new(towards("/etc/other.crt", "fd00::3", "fraud.svc", ["/etc/a.crt", "/etc/a.key"]));
    let secure = [
        Endpoint { address: tcp("fraud-tls.models.svc", 9000), hop: true, tls: Some(usual) },
        Endpoint { address: tcp("fd00::3", 9000), hop: true, tls: Some(own) },
    ];
    assert_eq!(v2.endpoints[..2], [far, told]);
    assert_eq!(v2.endpoints[2..], secure);
    let admin = config.tls.admin.as_ref().unwrap();
    // Who has a token needs no certificate.
    assert!(admin.optional && !config.tls.listen.as_ref().unwrap().optional);
    assert_eq!(admin.client_ca.as_deref(), Some(Path::new("/etc/tls/ca.crt")));
    assert_eq!(config.rights.act, [pattern("release.ops.svc")]);
    assert_eq!(
        config.telemetry.tls,
        Some(Arc::new(towards("/etc/tls/ca.crt", "otel.svc", "otel.svc", pair)))
    );
    assert_eq!(v2.model_name.as_deref(), Some("fraud-next"));
    assert_eq!(
        v3.endpoints,
        [Endpoint { address: Address::Unix("/run/fraud-v3.sock".into()), hop: false, tls: None }]
    );
    let user = http::HeaderName::from_static("x-user-id");
    assert_eq!(fraud.unit, [Key::Metadata(user), Key::Parameter("user_id".into())]);
    let Strategy::Ab(ab) = &fraud.strategy else { panic!("{fraud:?}") };
    let Ab { baseline, salt, weights, segments, judge, .. } = &**ab;
    let share = |thousandths| Percent::from_thousandths(thousandths).unwrap();
    assert_eq!((*baseline, &**salt), (0, "fraud/spring"));
    assert_eq!(*weights, [(0, share(89_500)), (1, share(10_500))]);
    assert_eq!((segments.len(), judge), (2, &None));
    assert_eq!((&*segments[0].name, &segments[0].weights[..]), ("testers", &[(2, Percent::ALL)][..]));
    assert_eq!((&*segments[1].name, segments[1].weights.len()), ("segment-2", 2));
    assert_eq!(segments[0].matches.0.len(), 2);
    assert!(matches!(&fraud.force, Force::Matching(Match(pairs)) if pairs.len() == 2));
    assert_eq!(fraud.default_deadline, Some(Duration::from_millis(2500)));
    let shadow = Shadow {
        variant: 3,
        sample: share(10_000),
        deadline: Duration::from_millis(500),
        calls: 20,
        bytes: Size(8 << 20),
        on_cancel: OnCancel::Keep,
        strip: vec![http::header::AUTHORIZATION, http::header::COOKIE],
        trace_sample: Some(share(1_000)),
        stages: Vec::new(),
        answers: false,
        judging: Some(judging()),
    };
    assert_eq!(fraud.shadows, [shadow]);
    let fallback =
        Fallback { timeout: Some(Duration::from_millis(400)), budget: share(30_000), hold: Size(256 << 10) };
    assert_eq!(fraud.fallback, Some(fallback));
    let rule = |output: &str, measure| Compare { output: output.into(), measure };
    let drift = Drift {
        sample: share(20_000),
        bytes: Size(4 << 20),
        outputs: vec![rule("label", Measure::Class { top: 5 }), rule("took", Measure::Ignore)],
        reference: Some("/etc/parhelion/fraud.reference.json".into()),
        alpha: 0.005,
    };
    assert_eq!(fraud.drift, Some(drift));
    assert_eq!(config.model("ranker").unwrap().force, Force::Anyone);
    assert_eq!(config.limits.retain, Size(512 << 10));
    assert_eq!(config.limits.connection_age, Some(Duration::from_secs(3600)));
    assert_eq!(config.drain.lag, Duration::from_secs(5));
    assert_eq!(config.telemetry.otlp.as_deref(), Some("https://otel-collector:4317"));
    assert_eq!(config.telemetry.keep_slower_than, Some(Duration::from_millis(750)));
    assert!(!config.telemetry.keep_errors);
}

#[test]
fn bad_files_are_refused_with_all_their_problems() {
    let bless = std::env::var_os("PARHELION_BLESS").is_some();
    let files = corpus("tests/config/invalid");
    for (path, text) in &files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let said = match accept_named(name, text) {
            Ok(_) => panic!("{name} was accepted"),
            Err(errors) => format!("{errors}\n"),
        };
        let beside = path.with_extension("txt");
        if bless {
            fs::write(&beside, &said).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        assert_eq!(said, expected, "{name}: PARHELION_BLESS=1 writes what is said now");
    }
    assert_eq!(files.len(), 81);
}

#[test]
fn a_report_counts_problems_and_shows_warnings() {
    let good = "models: {m: {variants: {a: {endpoint: \"http://a:1\"}, b: {endpoint: \"http://b:1\"}},
        strategy: {kind: ab, weights: {a: 50%, b: 50%}}}}";
    let text = report(&accept_text(good));
    assert!(text.starts_with("ok: 1 model, 2 variants (revision "), "{text}");
    assert!(text.contains("\nwarning: models.m.unit"), "{text}");
    let text = report(&accept_text("models: {}"));
    assert!(text.ends_with("\n\n1 problem"), "{text}");
}

#[test]
fn warnings_say_what_works_but_is_seldom_meant() {
    let text = "models: {m: {variants: {a: {endpoint: \"http://a:1\"}, b: {endpoint: \"http://a:1\"}},
        strategy: {kind: ab, weights: {a: 50%, b: 50%}}}}
limits: {stream_window: 8MiB}
drain: {lag: 10s}";
    let warnings = accept_text(text).unwrap().warnings;
    let paths: Vec<&str> = warnings.iter().map(|problem| &*problem.path).collect();
    assert_eq!(paths, ["models.m.variants.b", "models.m.unit", "limits.stream_window", "drain"]);
}

#[test]
fn a_key_of_its_own_is_warned_of_where_others_must_know_it() {
    let said = |head: &str, endpoint: &str, more: &str| {
        let text = format!("{head}\nmodels: {{m: {{variants: {{a: {{{endpoint}}}}}{more}}}}}");
        let warnings = accept_text(&text).unwrap().warnings;
        assert!(warnings.len() <= 1 && warnings.iter().all(|problem| &*problem.path == "keys"));
        warnings.into_iter().next().map(|problem| problem.to_string())
    };
    let (near, far) = ("endpoint: \"http://127.0.0.1:1\"", "endpoint: {url: \"http://a:1\", hop: true}");
    let several = "endpoints: [\"http://b:1\", {url: \"http://a:1\", hop: true}]";
    let feedback = ", feedback: {kept: {kind: binary}}";
    for endpoint in [near, far] {
        let text = said("", endpoint, feedback).unwrap();
        assert!(text.contains("refuses feedback about what another one predicted (m)"), "{text}");
        assert!(text.contains("openssl rand -hex 32"), "{text}");
    }
    for endpoint in [far, several] {
        assert!(said("", endpoint, "").unwrap().contains("the sidecar of m.a does not know the key"));
    }
    assert_eq!(said("", near, ""), None);
    assert_eq!(said("", "endpoint: \"http://a:1\"", ""), None, "it need not have a sidecar");
    assert_eq!(said("keys: /etc/parhelion/keys", far, feedback), None);
}

#[test]
fn fallback_is_on_wherever_a_variant_is_tried_beside_the_baseline() {
    let two = |fallback: &str| {
        let text = format!(
            "models: {{m: {{variants: {{a: {{endpoint: \"http://a:1\"}}, b: {{endpoint: \"http://b:1\"}}}},
              unit: [metadata:u], strategy: {{kind: ab, weights: {{a: 50%, b: 50%}}}}{fallback}}}}}"
        );
        accept_text(&text).unwrap()
    };
    let share = Percent::from_thousandths(20_000).unwrap();
    let default = Fallback { timeout: None, budget: share, hold: Size(1 << 20) };
    for text in ["", ", fallback: {}", ", fallback: {timeout: auto, budget: 20%, hold: 1MiB}"] {
        let loaded = two(text);
        assert_eq!(
            (&loaded.config.models[0].fallback, &loaded.warnings[..]),
            (&Some(default.clone()), &[][..])
        );
    }
    let off = two(", fallback: off").config;
    assert_eq!(off.models[0].fallback, None);
    assert_eq!(effective(&off)["models"]["m"]["fallback"], "off");
    let one = "models: {m: {variants: {a: {endpoint: \"http://a:1\"}}, fallback: {budget: 5%}}}";
    let one = accept_text(one).unwrap();
    assert_eq!(one.config.models[0].fallback, None);
    assert_eq!(one.warnings[0].path, "models.m.fallback");
    assert!(effective(&one.config)["models"]["m"].get("fallback").is_none());
    let hasty = two(", fallback: {timeout: 50ms}");
    assert_eq!(hasty.config.models[0].fallback.as_ref().unwrap().timeout, Some(Duration::from_millis(50)));
    assert_eq!(hasty.warnings[0].path, "models.m.fallback.timeout");
}

#[test]
fn resources_hold_unless_told_otherwise_and_change_no_other_rollout() {
    let two = |guards: &str| {
        let metrics = |port: u16| format!("metrics: \"http://127.0.0.1:{port}/metrics\"");
        let text = format!(
            "state: /var/lib/parhelion
models: {{m: {{variants: {{a: {{endpoint: \"http://a:1\", {}}}, b: {{endpoint: \"http://b:1\", {}}}}},
              unit: [metadata:u], strategy: {{kind: canary{guards}}}}}}}",
            metrics(1),
            metrics(2)
        );
        accept_text(&text).unwrap()
    };
    let loaded = two(", guards: {resources: {memory: {relative: 20%}}}");
    let Strategy::Canary(canary) = &loaded.config.models[0].strategy else { panic!("{loaded:?}") };
    let guard = ResourcesGuard {
        memory: Some(0.2),
        cpu: None,
        window: Duration::from_secs(60),
        on_fail: OnFail::Hold,
    };
    assert_eq!((canary.guards.resources, canary.on_fail), (Some(guard), OnFail::Rollback));
    assert_eq!(loaded.warnings, []);
    let without = two("");
    let paths: Vec<&str> = without.warnings.iter().map(|warning| &*warning.path).collect();
    assert_eq!(paths, ["models.m.variants.a.metrics", "models.m.variants.b.metrics"]);
    // Where it is not asked for, a rollout rests on the same text as ever.
    let guards = &effective(&without.config)["models"]["m"]["strategy"]["guards"];
    assert!(guards.get("resources").is_none(), "{guards}");
}

#[test]
fn problems_are_data_too() {
    let errors = accept_text("models: {m: {variants: {a: {endpoint: 5}}}}").unwrap_err();
    let json = serde_json::to_value(&errors).unwrap();
    assert_eq!(
        json,
        serde_json::json!([{
            "path": "models.m.variants.a.endpoint",
            "place": "config.yaml:1",
            "value": "5",
            "message": "is not an address like http://127.0.0.1:8001, or a map with `url`",
        }])
    );
}

#[test]
fn the_salt_names_the_model_and_what_is_new() {
    let salt = |extra: &str| {
        let text = format!(
            "models: {{m: {{variants: {{a: {{endpoint: \"http://a:1\", version: \"1\"}}, b: {{endpoint: \"http://b:1\"{extra}}}}},
              unit: [metadata:u], strategy: {{kind: ab, weights: {{a: 50%, b: 50%}}}}}}}}"
        );
        match &accept_text(&text).unwrap().config.models[0].strategy {
            Strategy::Ab(ab) => ab.salt.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    assert_eq!(salt(""), "m/b");
    assert_eq!(salt(", version: 2.0.0"), "m/2.0.0");
    let shadowed = text_with_a_shadow();
    let with_shadow = accept_text(&shadowed).unwrap().config;
    assert_eq!(with_shadow.models[0].strategy.salt(), Some("m/b"), "a shadow moves nobody");
    assert_eq!(salt(&format!(", version: 2.0.0, digest: \"{digest}\"")), format!("m/{digest}"));
}

fn text_with_a_shadow() -> String {
    "models: {m: {variants: {a: {endpoint: \"http://a:1\"}, b: {endpoint: \"http://b:1\"}, c: {endpoint: \"http://c:1\"}},
       unit: [metadata:u], strategy: {kind: ab, weights: {a: 50%, b: 50%}}, shadows: [{variant: c}]}}"
        .to_owned()
}

const AT_HOME: &str = "default: m
models:
  m: {variants: {v1: {endpoint: \"http://far:1\"}, v2: {endpoint: \"http://far:2\"}}, strategy: {kind: ab, weights: {v1: 50%, v2: 50%}}, unit: [metadata:u]}
  n: {variants: {v2: {endpoint: \"http://far:3\"}}}";

fn at_home(local: &str, endpoint: &str) -> Result<Loaded, Errors> {
    let environment = Environment {
        local: Some(local.to_owned()),
        local_endpoint: endpoint.to_owned(),
        ..Environment::default()
    };
    accept(&[source::File { name: "config.yaml".to_owned(), text: AT_HOME.to_owned() }], &environment)
}

#[test]
fn the_variant_at_home_is_called_at_home() {
    let shown = |local| effective(&at_home(local, "http://127.0.0.1:8001").unwrap().config);
    let home = serde_json::json!([{"url": "http://127.0.0.1:8001", "hop": false}]);
    let far = |port: u16| serde_json::json!([{"url": format!("http://far:{port}"), "hop": true}]);
    let endpoints = |shown: &Value, model: &str, variant: &str| {
        shown["models"][model]["variants"][variant]["endpoints"].clone()
    };
    let both = shown("v2");
    assert_eq!(endpoints(&both, "m", "v1"), far(1));
    assert_eq!(endpoints(&both, "m", "v2"), home);
    assert_eq!(endpoints(&both, "n", "v2"), home);
    let one = shown("m/v2");
    assert_eq!(endpoints(&one, "m", "v2"), home);
    assert_eq!(endpoints(&one, "n", "v2"), far(3));
}

#[test]
fn a_variant_at_home_that_does_not_exist_is_refused() {
    let errors = at_home("v3", "http://127.0.0.1:8001").unwrap_err();
    assert_eq!(
        errors.to_string(),
        "PARHELION_LOCAL\n    \"v3\": is no variant of any model\n    → known here: v1, v2"
    );
    let errors = at_home("v1", "127.0.0.1").unwrap_err();
    assert_eq!(errors.0[0].path, "PARHELION_LOCAL_ENDPOINT");
}

#[test]
fn a_text_that_explodes_is_refused() {
    let deep = format!("models: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(accept_text(&deep).is_err());
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    assert!(accept_text(&laughs).is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_odd(text in "\\PC{0,200}") {
        let _ = accept_text(&text);
    }

    #[test]
    fn no_tree_is_too_odd(key in "(listen|models|limits|telemetry|drain|services|x)", rest in "[ \\n{}\\[\\]:,a-z0-9%&*\"'-]{0,80}") {
        let _ = accept_text(&format!("{key}: {rest}"));
    }

    #[test]
    fn no_damage_is_too_odd(line in 0_usize..80, cut in 0_usize..60, with in "[ -~]{0,3}", whole in proptest::bool::ANY) {
        let text = include_str!("../../tests/config/valid/every-key.yaml");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let at = line % lines.len();
        if whole {
            lines.remove(at);
        } else {
            let cut = cut.min(lines[at].len());
            lines[at].truncate(cut);
            lines[at].push_str(&with);
        }
        if let Err(errors) = accept_text(&lines.join("\n")) {
            proptest::prop_assert!(!errors.0.is_empty());
        }
    }
}

/// That of the shadow in `every-key.yaml`.
fn judging() -> Judging {
    let share = |thousandths| Percent::from_thousandths(thousandths).unwrap();
    let rule = |output: &str, measure| Compare { output: output.into(), measure };
    let numeric = Numeric { absolute: Some(1e-5), relative: Some(0.001), ulp: Some(4), equal_nan: false };
    let address = Address::Tcp { host: "127.0.0.1".into(), port: 8011 };
    Judging {
        compare: vec![
            rule("label", Measure::Class { top: 3 }),
            rule("scores", Measure::Scores { tolerance: 1e-4 }),
            rule("amount", Measure::Numeric(numeric)),
            rule("items", Measure::Ranking { tolerance: 0.1, depth: 20 }),
            rule("vector", Measure::Embedding { tolerance: 0.001 }),
            rule("id", Measure::Exact),
            rule("took", Measure::Ignore),
        ],
        control: Some(Control {
            variant: Variant {
                name: "http://127.0.0.1:8011".into(),
                version: None,
                digest: None,
                endpoints: vec![Endpoint { address, hop: false, tls: None }],
                model_name: None,
                model_version: None,
                metrics: None,
                build: "http://127.0.0.1:8011".into(),
            },
            index: None,
            sample: share(20_000),
        }),
        disagreement: Some(share(2_000)),
        alpha: 0.005,
        offenders: Offenders { keep: 5, values: Some(Size(2048)), mask: vec!["vector".into()] },
    }
}
