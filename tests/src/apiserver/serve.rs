//! Requests and their answers.

use std::convert::Infallible;
use std::net::TcpListener;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use super::body::{Pieces, status, whole};
use super::fault::fault_of;
use super::resource::Target;
use super::selector::Selector;
use super::store::NotThere;
use super::{Asked, Shared, Verb, What, lock, stream};

/// Takes connections until the server is stopped.
pub(super) async fn listen(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener without blocking");
    let mut up = shared.up.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = up.wait_for(|up| !up) => return,
        };
        let Ok((connection, _)) = accepted else { continue };
        // As a real one: otherwise what comes next waits until the client has acknowledged what came before, 40 ms.
        if connection.set_nodelay(true).is_err() {
            continue;
        }
        let (acceptor, shared, mut up) = (acceptor.clone(), Arc::clone(&shared), up.clone());
        tokio::spawn(async move {
            let Ok(connection) = acceptor.accept(connection).await else { return };
            let service = service_fn(|request| answer(Arc::clone(&shared), request));
            tokio::select! {
                _done = http1::Builder::new().serve_connection(TokioIo::new(connection), service) => {}
                _ = up.wait_for(|up| !up) => {}
            }
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Pieces>, Infallible> {
    let query = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
    let query: Vec<_> = query.map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
    let Some(target) = Target::parse(request.uri().path()) else {
        return Ok(status(&shared, 404, "the server could not find the requested resource", None));
    };
    let watch = query.iter().any(|(key, value)| key == "watch" && matches!(value.as_str(), "true" | "1"));
    let verb = match (request.method(), &target.name) {
        (&Method::GET, Some(_)) => Verb::Get,
        (&Method::GET, None) if watch => Verb::Watch,
        (&Method::GET, None) => Verb::List,
        (&Method::PATCH, _) => Verb::Patch,
        (&Method::DELETE, _) => Verb::Delete,
        _ => Verb::Put,
    };
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (user_agent, authorization) = (header("user-agent").to_owned(), header("authorization").to_owned());
    let mut asked = Asked { at: Instant::now(), verb, plural: target.plural.clone(), query, user_agent, status: 0 };
    let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
    let known = lock(&shared.tokens).iter().any(|accepted| accepted == token.trim());
    let response = if known {
        let fault = fault_of(&shared, &asked);
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        respond(&shared, &target, &asked, &body, fault)
    } else {
        status(&shared, 401, "Unauthorized", None)
    };
    asked.status = response.status().as_u16();
    lock(&shared.asked).push(asked);
    Ok(response)
}

fn respond(shared: &Arc<Shared>, target: &Target, asked: &Asked, body: &[u8], fault: Option<What>) -> Response<Pieces> {
    match fault {
        Some(What::Status { code, retry_after }) => return status(shared, code, "a fault of the test's", retry_after),
        Some(What::Body(text)) => return whole(shared, 200, text),
        _ => {}
    }
    let answer = match asked.verb {
        Verb::List => {
            return list(shared, target, asked).map_or_else(
                |(code, message)| status(shared, code, &message, None),
                |text| stream::pages(shared, text, fault),
            );
        }
        Verb::Watch => return watch(shared, target, asked, fault),
        Verb::Get => get(shared, target),
        Verb::Patch => patch(shared, target, body),
        Verb::Put => put(shared, target, body),
        Verb::Delete => delete(shared, target),
    };
    answer.map_or_else(
        |(code, message)| status(shared, code, &message, None),
        |text| whole(shared, if asked.verb == Verb::Put { 201 } else { 200 }, text),
    )
}

type Refused = (u16, String);

fn selector(target: &Target, asked: &Asked) -> Result<Selector, Refused> {
    let parameter = |name| asked.parameter(name).unwrap_or_default();
    Selector::new(target.namespace.clone(), parameter("labelSelector"), parameter("fieldSelector"))
        .map_err(|message| (400, message))
}

const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result.";

fn list(shared: &Shared, target: &Target, asked: &Asked) -> Result<Vec<u8>, Refused> {
    let selector = selector(target, asked)?;
    let limit = asked.parameter("limit").and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0);
    let (version, after) = match asked.parameter("continue").and_then(|token| token.split_once(':')) {
        Some((version, after)) => (version.parse().ok(), Bound::Excluded(after.to_owned())),
        None => (None, Bound::Unbounded),
    };
    let list = shared.store().list(&target.path, version).map_err(|_| (410, EXPIRED.to_owned()))?;
    let range = (after, Bound::Unbounded);
    let mut matching = list.objects.range::<String, _>(range).filter(|(_, object)| selector.matches(object)).peekable();
    let mut items = Vec::new();
    let mut last = None;
    for (name, object) in matching.by_ref().take(limit.unwrap_or(usize::MAX)) {
        if !items.is_empty() {
            items.push(b',');
        }
        items.extend_from_slice(&object.text);
        last = Some(name);
    }
    let mut metadata = json!({"resourceVersion": list.version.to_string()});
    if let (Some(last), Some(_)) = (last, matching.peek()) {
        metadata["continue"] = json!(format!("{}:{last}", list.version));
        shared.store().keep(&target.path, &list);
    }
    let kind = if list.kind.is_empty() { "List".to_owned() } else { format!("{}List", list.kind) };
    let version = if list.api_version.is_empty() { "v1" } else { &list.api_version };
    let head = format!(r#"{{"kind":"{kind}","apiVersion":"{version}","metadata":{metadata},"items":["#);
    Ok([head.as_bytes(), &items, b"]}\n"].concat())
}

fn watch(shared: &Arc<Shared>, target: &Target, asked: &Asked, fault: Option<What>) -> Response<Pieces> {
    let selector = match selector(target, asked) {
        Ok(selector) => selector,
        Err((code, message)) => return status(shared, code, &message, None),
    };
    let version = asked.parameter("resourceVersion").and_then(|version| version.parse().ok());
    let version = version.unwrap_or_else(|| *shared.version.borrow());
    match shared.store().since(&target.path, version, 0) {
        Err(NotThere::TooLarge) => {
            return status(shared, 504, &format!("Too large resource version: {version}"), Some(1));
        }
        // A real server grants the watch and says so in an event.
        Ok(_) | Err(NotThere::Gone) => {}
    }
    stream::watch(shared, stream::Watch::new(shared, target, asked, selector, version), fault)
}

fn name(target: &Target) -> Result<String, Refused> {
    target.full_name().ok_or((405, "the request needs a name".to_owned()))
}

fn not_found(name: &str) -> Refused {
    (404, format!("{name:?} not found"))
}

fn get(shared: &Shared, target: &Target) -> Result<Bytes, Refused> {
    let name = name(target)?;
    shared.store().get_at(&target.path, &name).map(|object| object.text.clone()).ok_or_else(|| not_found(&name))
}

/// A merge patch (RFC 7396); of the status only, or of all but the status.
fn patch(shared: &Shared, target: &Target, body: &[u8]) -> Result<Bytes, Refused> {
    let name = name(target)?;
    let patch: Value = serde_json::from_slice(body).map_err(|error| (400, error.to_string()))?;
    let mut store = shared.store();
    let mut value = store.get_at(&target.path, &name).ok_or_else(|| not_found(&name))?.value();
    for (key, part) in patch.as_object().into_iter().flatten() {
        if (key == "status") == target.status {
            merge(&mut value[key], part);
        }
    }
    let version = store.put_at(&target.path, value);
    let text = store.get_at(&target.path, &name).map(|object| object.text.clone());
    drop(store);
    shared.version.send_replace(version);
    text.ok_or_else(|| not_found(&name))
}

fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, part) in patch {
        if part.is_null() {
            into.as_object_mut().expect("it is an object now").remove(key);
        } else {
            merge(&mut into[key], part);
        }
    }
}

fn put(shared: &Shared, target: &Target, body: &[u8]) -> Result<Bytes, Refused> {
    let mut value: Value = serde_json::from_slice(body).map_err(|error| (400, error.to_string()))?;
    if let Some(namespace) = &target.namespace {
        value["metadata"]["namespace"] = json!(namespace);
    }
    if value["metadata"]["name"].is_null() {
        let prefix = value["metadata"]["generateName"].as_str().unwrap_or("unnamed-").to_owned();
        value["metadata"]["name"] = json!(format!("{prefix}{}", *shared.version.borrow()));
    }
    let name = value["metadata"]["name"].as_str().map(str::to_owned).ok_or((422, "no name".to_owned()))?;
    let full_name = Target { name: Some(name), ..Target::parse(&target.path).expect("a path of its own making") };
    let full_name = Target { namespace: target.namespace.clone(), ..full_name }.full_name().unwrap_or_default();
    let mut store = shared.store();
    let version = store.put_at(&target.path, value);
    let text = store.get_at(&target.path, &full_name).map(|object| object.text.clone());
    drop(store);
    shared.version.send_replace(version);
    text.ok_or_else(|| not_found(&full_name))
}

fn delete(shared: &Shared, target: &Target) -> Result<Bytes, Refused> {
    let name = name(target)?;
    let version = shared.store().delete_at(&target.path, &name).ok_or_else(|| not_found(&name))?;
    shared.version.send_replace(version);
    Ok(r#"{"kind":"Status","apiVersion":"v1","status":"Success"}"#.into())
}
