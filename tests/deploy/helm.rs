//! The Helm chart: linted, rendered in several shapes, and each shape held against the schemas of
//! the oldest and the latest Kubernetes. Nothing is installed anywhere.

use std::process::Command;

use tempfile::TempDir;

use crate::process::onced;
use crate::skip::skip;
use crate::tool::tool;
use crate::{deployed, drain, read, run, said_by};

/// The oldest Kubernetes that the chart takes, and the latest whose schemas are at hand.
const KUBERNETES: [&str; 2] = ["1.29", "1.37"];

/// Ways to install it.
const SHAPES: [(&str, &str); 3] = [
    ("with no more than it asks for", "credentials: {secretName: onced-credentials}\n"),
    (
        "with everything there is",
        r#"
image:
  digest: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
  pullSecrets: [{name: pull}]
config: |
  lease_default = "1m"

  [namespaces.orders]
  quota_keys = 1_000_000
listenAddress: "[::]"
credentials: {secretName: onced-credentials}
tls: {secretName: onced-tls, clientCa: true}
metrics: {serviceMonitor: {enabled: true, interval: 15s, labels: {release: prometheus}}}
env: [{name: ONCED_LOG, value: warn}]
service: {type: LoadBalancer, port: 443, annotations: {a.example/b: c}}
persistence: {storageClassName: fast, size: 1Ti, accessMode: ReadWriteOnce, annotations: {a: b}}
terminationGracePeriodSeconds: 120
podDisruptionBudget: {maxUnavailable: 1}
serviceAccount: {name: idempotency, annotations: {a: b}}
podAnnotations: {a: b}
podLabels: {team: payments}
nodeSelector: {disk: ssd}
tolerations: [{key: dedicated, operator: Exists, effect: NoSchedule}]
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a]}]}]
priorityClassName: high
"#,
    ),
    (
        "without what is optional",
        r#"
insecureAnyInterface: true
metrics: {enabled: false}
podDisruptionBudget: {enabled: false}
resources: {requests: null, limits: null}
"#,
    ),
];

/// A file of credentials.
const CREDENTIALS: &str = r#"
[principals.olga]
role = "operator"
namespaces = ["*"]
tokens = ["sha256:c3ab8ff13720e8ad9047dd39466b3c8974e592c2fa383d4a3960714caef0c4f2"]
"#;

struct Chart {
    helm: String,
    dir: TempDir,
}

impl Chart {
    fn new() -> Result<Self, String> {
        let helm = tool("ONCED_TEST_HELM", "helm", &["version"])?;
        Ok(Self { helm, dir: TempDir::new().unwrap() })
    }

    /// A command of helm on the chart, with these values and an image.
    fn command(&self, verb: &[&str], values: &str) -> Command {
        let file = self.dir.path().join("values.yaml");
        std::fs::write(&file, values).unwrap();
        let mut command = Command::new(&self.helm);
        // Whoever runs the tests may have plugins and repositories.
        for variable in ["HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME"] {
            command.env(variable, self.dir.path());
        }
        command.args(verb).arg(deployed("helm/onced")).arg("--values").arg(file);
        command.args(["--set", "image.repository=registry.example/onced"]);
        command
    }

    fn template(&self, values: &str) -> Command {
        let version = format!("{}.0", KUBERNETES[0]);
        let mut command = self.command(&["template", "idem"], values);
        command.args(["--kube-version", &version]);
        command
    }

    /// The objects that it comes to.
    fn rendered(&self, values: &str) -> String {
        said_by(&mut self.template(values))
    }
}

/// The lines of a block of YAML below the first line that is `head`, without their indentation.
fn block(yaml: &str, head: &str) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = yaml.lines().skip_while(|line| line.trim() != head);
    let depth = indent(lines.next().unwrap_or_else(|| panic!("{head} is not in {yaml}")));
    let lines: Vec<_> =
        lines.take_while(|line| line.trim().is_empty() || indent(line) > depth).collect();
    let common = lines.iter().filter(|it| !it.trim().is_empty()).map(|it| indent(it)).min();
    lines.iter().map(|line| line.get(common.unwrap_or(0)..).unwrap_or("").to_owned()).collect()
}

#[test]
fn helm_finds_no_fault_with_the_chart() {
    let chart = match Chart::new() {
        Ok(chart) => chart,
        Err(why) => return skip("helm_finds_no_fault_with_the_chart", &why),
    };
    for (_, values) in SHAPES {
        let said = said_by(&mut chart.command(&["lint", "--strict"], values));
        assert!(!said.contains("[WARNING]") && !said.contains("[ERROR]"), "{said}");
    }
}

#[test]
fn every_shape_of_the_chart_is_what_kubernetes_takes() {
    const TEST: &str = "every_shape_of_the_chart_is_what_kubernetes_takes";
    let chart = match Chart::new() {
        Ok(chart) => chart,
        Err(why) => return skip(TEST, &why),
    };
    let validate = tool("ONCED_TEST_KUBERNETES_VALIDATE", "kubernetes-validate", &["--version"]);
    let validate = match validate {
        Ok(validate) => validate,
        Err(why) => return skip(TEST, &why),
    };
    let file = chart.dir.path().join("objects.yaml");
    let judged = |text: &str, version: &str| {
        std::fs::write(&file, text).unwrap();
        run(Command::new(&validate).args(["--strict", "--kubernetes-version", version]).arg(&file))
    };
    for (shape, values) in SHAPES {
        let objects = chart.rendered(values);
        // The schema of a ServiceMonitor is no part of Kubernetes.
        let of_kubernetes: Vec<_> =
            objects.split("\n---\n").filter(|it| !it.contains("monitoring.coreos.com")).collect();
        let objects = of_kubernetes.join("\n---\n");
        for version in KUBERNETES {
            let (valid, said) = judged(&objects, version);
            assert!(valid, "{shape}, {version}: {said}");
            let passed = said.lines().filter(|line| line.contains(" passed ")).count();
            assert_eq!(passed, objects.matches("\nkind: ").count(), "{shape}, {version}: {said}");
        }
    }
    // It would have said so.
    let misspelt =
        chart.rendered(SHAPES[0].1).replace("readOnlyRootFilesystem", "readOnlyRootFileSystem");
    assert!(!judged(&misspelt, KUBERNETES[1]).0);
}

/// The certificate of somebody who may vouch for others.
fn authority() -> String {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

#[test]
fn the_server_takes_the_command_line_and_the_settings_of_the_chart() {
    let chart = match Chart::new() {
        Ok(chart) => chart,
        Err(why) => {
            return skip("the_server_takes_the_command_line_and_the_settings_of_the_chart", &why);
        }
    };
    let write = |path: &str, text: &str| {
        let path = chart.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let tls = rcgen::generate_simple_self_signed(["onced.example".to_owned()]).unwrap();
    write("tls/tls.crt", &tls.cert.pem());
    write("tls/ca.crt", &authority());
    write("tls/tls.key", &tls.signing_key.serialize_pem());
    write("credentials/credentials.toml", CREDENTIALS);
    for (shape, values) in SHAPES {
        let objects = chart.rendered(values);
        let file = chart.dir.path().join("onced.toml");
        std::fs::write(&file, block(&objects, "onced.toml: |").join("\n")).unwrap();
        // The volumes of the pod.
        let mounted = format!("={}/", chart.dir.path().display());
        let arguments: Vec<_> = block(&objects, "args:")
            .iter()
            .filter_map(|it| it.trim().strip_prefix("- "))
            .map(|it| it.replace("=/etc/onced/", &mounted))
            .collect();
        let config = format!("--config={}", file.display());
        assert!(arguments.contains(&config), "{shape}: {arguments:?}");
        said_by(onced().args(arguments).arg("--check"));
    }
}

#[test]
fn values_that_mean_nothing_are_refused_by_name() {
    let chart = match Chart::new() {
        Ok(chart) => chart,
        Err(why) => return skip("values_that_mean_nothing_are_refused_by_name", &why),
    };
    for (values, fault) in [
        ("replicas: 2", "replicas"),
        ("persistence: {accessMode: ReadWriteMany}", "persistence.accessMode"),
        ("image: {digest: latest}", "image.digest"),
        ("metrics: {serviceMonitor: {interval: often}}", "metrics.serviceMonitor.interval"),
        ("", "credentials.secretName is empty"),
        (
            "{insecureAnyInterface: true, tls: {secretName: a}, metrics: {enabled: false}}",
            "metrics.enabled is false",
        ),
    ] {
        let (rendered, said) = run(&mut chart.template(values));
        assert!(!rendered && said.contains(fault), "{values}: {said}");
    }
    let (rendered, said) = run(chart.template(SHAPES[0].1).args(["--set", "image.repository="]));
    assert!(!rendered && said.contains("image.repository is empty"), "{said}");
}

#[test]
fn kubernetes_waits_for_the_end_of_a_drain() {
    let values = read(&deployed("helm/onced/values.yaml"));
    let name = "terminationGracePeriodSeconds: ";
    let seconds = values.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    assert!(seconds.parse::<u64>().unwrap() > drain::longest().as_secs());
}
