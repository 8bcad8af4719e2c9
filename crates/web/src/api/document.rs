//! The OpenAPI 3.1 document of the API, made of the table of routes.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::{
    http::{
        Method,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathsBuilder,
    Ref, RefOr, Required, ResponseBuilder, Schema,
    path::{HttpMethod, OperationBuilder, PathItem},
    request_body::RequestBodyBuilder,
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    tag::TagBuilder,
};

use super::{
    operation::{Chapter, Operation},
    reply::{Shape, named},
    shapes::Error,
};
use crate::routes::{Route, Row, Who, table};

/// The name of the one way in.
const TOKEN: &str = "token";
const JSON: &str = "application/json";

/// What is read before the operations.
const INTRODUCTION: &str = "What you do on the pages, for programs. They come with a token: \
    `Authorization: Bearer berth_…`. You make tokens at /account/tokens, and say there what each may do. A token with \
    `ops:read` or `ops:write` of an operator is for everybody's things, any other one for its owner's. What is \
    somebody else's and what does not exist are told apart by nobody. Sizes are bytes, times are RFC 3339.";

static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(|| made(table()));
static TEXT: LazyLock<Bytes> =
    LazyLock::new(|| serde_json::to_vec_pretty(&*DOCUMENT).unwrap_or_default().into());

/// The document.
pub(crate) fn document() -> &'static OpenApi {
    &DOCUMENT
}

/// `/api/openapi.json`
pub(crate) async fn show() -> Response {
    let headers =
        [(CONTENT_TYPE, "application/vnd.oai.openapi+json;version=3.1"), (CACHE_CONTROL, "no-cache")];
    (headers, TEXT.clone()).into_response()
}

fn made(rows: Vec<Row>) -> OpenApi {
    let mut schemas: BTreeMap<String, RefOr<Schema>> = BTreeMap::new();
    let mut list = vec![];
    let error = named::<Error>(&mut list);
    schemas.extend(list);
    let mut paths = PathsBuilder::new();
    for Row { route, operation, .. } in rows {
        let (Some(operation), Some(method)) = (operation, http_method(&route.method)) else { continue };
        let described = described(&route, &operation, &error);
        schemas.extend(operation.schemas);
        paths = paths.path(route.path, PathItem::new(method, described));
    }
    let components = ComponentsBuilder::new().schemas_from_iter(schemas).security_scheme(
        TOKEN,
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some("A token of /account/tokens. The list of each operation names its scope."))
                .build(),
        ),
    );
    let info = InfoBuilder::new()
        .title("Berth")
        .version("1")
        .description(Some(INTRODUCTION))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()));
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components.build()))
        .tags(Some(Chapter::ALL.map(|chapter| TagBuilder::new().name(chapter.title()).build())))
        .build()
}

fn described(route: &Route, operation: &Operation, error: &str) -> OperationBuilder {
    let mut described = OperationBuilder::new()
        .tag(operation.chapter.title())
        .operation_id(Some(operation.id))
        .summary(Some(operation.what))
        .parameters(Some(operation.parameters.clone()));
    if let Who::Token(scope) = route.who {
        described = described.security(SecurityRequirement::new(TOKEN, [scope.as_str()]));
    }
    if let Some(body) = &operation.body {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(body))).build();
        let body = RequestBodyBuilder::new().content(JSON, content).required(Some(Required::True));
        described = described.request_body(Some(body.build()));
    }
    for Shape { status, what, body } in &operation.replies {
        let mut response = ResponseBuilder::new().description(*what);
        if let Some(body) = body {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(body))).build();
            response = response.content(JSON, content);
        }
        described = described.response(status.as_str(), response.build());
    }
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(error))).build();
    let refused = ResponseBuilder::new().description("What went wrong.").content(JSON, content);
    described.response("default", refused.build())
}

fn http_method(method: &Method) -> Option<HttpMethod> {
    match method.as_str() {
        "GET" => Some(HttpMethod::Get),
        "POST" => Some(HttpMethod::Post),
        "PUT" => Some(HttpMethod::Put),
        "DELETE" => Some(HttpMethod::Delete),
        _ => None,
    }
}
