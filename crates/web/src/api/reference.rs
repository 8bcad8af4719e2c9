//! `/api`: the document as a page to read.
#![expect(clippy::indexing_slicing, reason = "what is not in a JSON value is null there")]

use std::sync::{Arc, LazyLock};

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use serde_json::Value;

use super::{document::document, operation::Chapter};
use crate::{
    Website,
    frame::{Frame, Here},
    problem::Problem,
    visitor::Visitor,
    words,
};

#[derive(Template)]
#[template(path = "api.html")]
struct Page {
    frame: Frame,
    chapters: &'static [ChapterView],
    first: String,
}

struct ChapterView {
    id: String,
    title: &'static str,
    operations: Vec<OperationView>,
}

struct OperationView {
    id: String,
    method: String,
    path: String,
    what: String,
    scope: String,
    parameters: Vec<Field>,
    body: Vec<Field>,
    replies: Vec<ReplyView>,
    /// The command that does it.
    curl: String,
}

struct ReplyView {
    status: String,
    what: String,
    fields: Vec<Field>,
    /// The fields are of each item of a list.
    is_list: bool,
}

struct Field {
    name: String,
    kind: String,
    what: String,
    required: bool,
}

static CHAPTERS: LazyLock<Vec<ChapterView>> = LazyLock::new(|| {
    let document = serde_json::to_value(document()).unwrap_or_default();
    Chapter::ALL.into_iter().map(|chapter| Reader { document: &document }.chapter(chapter)).collect()
});

pub(crate) async fn show(State(website): State<Arc<Website>>, visitor: Visitor) -> Result<Response, Problem> {
    let address = &website.control.settings().website;
    let first =
        format!("BERTH={address}\nTOKEN=berth_…\ncurl -H \"Authorization: Bearer $TOKEN\" $BERTH/api/v1/vms");
    let page = Page { frame: Frame::new(&visitor, Here::Elsewhere), chapters: &CHAPTERS, first };
    words::show(StatusCode::OK, &page)
}

/// Reads the document.
struct Reader<'a> {
    document: &'a Value,
}

impl<'a> Reader<'a> {
    fn chapter(&self, chapter: Chapter) -> ChapterView {
        let mut operations = vec![];
        // In the order of the table, which the document's map of paths has not.
        for row in super::table::rows() {
            let method = row.route.method.as_str();
            let described = &self.document["paths"][row.route.path][method.to_lowercase()];
            if described["tags"][0] == chapter.title() {
                operations.push(self.operation(method, row.route.path, described));
            }
        }
        let id = chapter.title().to_lowercase().replace([' ', ','], "-");
        ChapterView { id, title: chapter.title(), operations }
    }

    fn operation(&self, method: &str, path: &str, described: &'a Value) -> OperationView {
        let body = self.shape(&described["requestBody"]);
        let parameters = described["parameters"].as_array().into_iter().flatten();
        let replies = described["responses"].as_object().into_iter().flatten();
        OperationView {
            id: text(&described["operationId"]),
            method: method.to_owned(),
            path: path.to_owned(),
            what: text(&described["summary"]),
            scope: text(&described["security"][0]["token"][0]),
            parameters: parameters.map(|parameter| self.parameter(parameter)).collect(),
            curl: curl(method, path, &body["example"]),
            body: self.fields(body),
            replies: replies
                .filter(|(status, _)| *status != "default")
                .map(|(status, reply)| self.reply(status, reply))
                .collect(),
        }
    }

    fn reply(&self, status: &str, reply: &'a Value) -> ReplyView {
        let shape = self.shape(reply);
        let items = self.followed(&shape["properties"]["items"]["items"]);
        let is_list = !items.is_null();
        ReplyView {
            status: status.to_owned(),
            what: text(&reply["description"]),
            fields: self.fields(if is_list { items } else { shape }),
            is_list,
        }
    }

    fn parameter(&self, parameter: &'a Value) -> Field {
        Field {
            name: text(&parameter["name"]),
            kind: if parameter["in"] == "path" {
                "in the path".into()
            } else {
                self.kind(&parameter["schema"])
            },
            what: text(&parameter["description"]),
            required: parameter["required"] == true,
        }
    }

    /// What is in the body of a request or a response.
    fn shape(&self, place: &'a Value) -> &'a Value {
        self.followed(&place["content"]["application/json"]["schema"])
    }

    /// What a reference stands for.
    fn followed(&self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str().and_then(|place| place.strip_prefix('#')) {
            Some(place) => self.document.pointer(place).unwrap_or(&Value::Null),
            None => schema,
        }
    }

    /// The fields of an object; of what is one of several objects, those of all.
    fn fields(&self, schema: &'a Value) -> Vec<Field> {
        let variants = schema["oneOf"].as_array().into_iter().flatten();
        let objects = variants.map(|one| self.followed(one)).chain([schema]);
        let mut fields: Vec<Field> = vec![];
        for object in objects {
            for (name, field) in object["properties"].as_object().into_iter().flatten() {
                if fields.iter().any(|known| known.name == *name) {
                    continue;
                }
                let required =
                    object["required"].as_array().is_some_and(|list| list.iter().any(|one| one == name));
                fields.push(Field {
                    name: name.clone(),
                    kind: self.kind(field),
                    what: self.what(field),
                    required,
                });
            }
        }
        fields
    }

    fn what(&self, field: &'a Value) -> String {
        let own = text(&field["description"]);
        if own.is_empty() { text(&self.followed(field)["description"]) } else { own }
    }

    /// The type of a value in a few words.
    fn kind(&self, schema: &'a Value) -> String {
        let schema = self.followed(schema);
        if let Some(words) = schema["enum"].as_array() {
            let words: Vec<_> = words.iter().map(text).collect();
            return words.join(", ");
        }
        let several = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
        if let Some(several) = several {
            let kinds: Vec<_> = several.iter().map(|one| self.kind(one)).collect();
            return kinds.join(" or ");
        }
        match (&schema["type"], schema["format"].as_str()) {
            (Value::Array(kinds), _) if schema["format"] == "date-time" && !kinds.is_empty() => {
                "time or null".to_owned()
            }
            (Value::Array(kinds), _) => kinds.iter().map(text).collect::<Vec<_>>().join(" or "),
            (_, Some("date-time")) => "time".to_owned(),
            (Value::String(kind), _) if kind == "array" => format!("list of {}", self.kind(&schema["items"])),
            (kind, _) => text(kind),
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        value => value.to_string(),
    }
}

/// The command that asks for it, with the website and the token as the page has named them.
fn curl(method: &str, path: &str, example: &Value) -> String {
    let path = path.replace("{vm}", "vm-0").replace("{account}", "bob").replace("{invitation}", "12");
    let path = path.replace("{port}", "3000").replace("{key}", "SHA256:u9Yx0mCz8p…");
    let method = if method == "GET" { String::new() } else { format!(" -X {method}") };
    let body = match example {
        Value::Null => String::new(),
        example => format!(" --json '{example}'"),
    };
    format!("curl{method} -H \"Authorization: Bearer $TOKEN\"{body} $BERTH{path}")
}
