//! `milepost.v1.IdentityService`: converts, calls, converts.

use tonic::{Request, Response, Status};

use crate::{
    grpc::{
        dataset_service::bad_path,
        from_proto::{self, PageRequest},
        pb::{self, identity_service_server::IdentityService},
        to_proto,
    },
    store::{Error, EventStore, NamespaceChanges, NamespaceSettings, NamespaceType},
};

pub(crate) struct Identities {
    pub(crate) store: EventStore,
}

#[tonic::async_trait]
impl IdentityService for Identities {
    async fn create_namespace(
        &self,
        request: Request<pb::CreateNamespaceRequest>,
    ) -> Result<Response<pb::CreateNamespaceResponse>, Status> {
        let request = request.into_inner();
        let namespace = request.namespace.ok_or_else(|| Error::invalid("namespace", "missing"))?;
        let display_name = match namespace.display_name {
            name if name.is_empty() => namespace.code.clone(),
            name => name,
        };
        let settings = NamespaceSettings {
            kind: kind(namespace.r#type)?,
            display_name,
            description: namespace.description,
        };
        let created =
            self.store.create_namespace(namespace.code, settings, request.validate_only).await?;
        let namespace = Some(to_proto::namespace(&created));
        Ok(Response::new(pb::CreateNamespaceResponse { namespace }))
    }

    async fn get_namespace(
        &self,
        request: Request<pb::GetNamespaceRequest>,
    ) -> Result<Response<pb::GetNamespaceResponse>, Status> {
        let namespace = self.store.namespace(&request.into_inner().code)?;
        let namespace = Some(to_proto::namespace(&namespace));
        Ok(Response::new(pb::GetNamespaceResponse { namespace }))
    }

    async fn list_namespaces(
        &self,
        request: Request<pb::ListNamespacesRequest>,
    ) -> Result<Response<pb::ListNamespacesResponse>, Status> {
        let request = request.into_inner();
        let page = PageRequest::parse(request.page_size, &request.page_token, "namespaces")?;
        let (found, next_page_token) = page.take(self.store.namespaces(), |it| it.code.as_ref());
        let namespaces = found.iter().map(|it| to_proto::namespace(it)).collect();
        Ok(Response::new(pb::ListNamespacesResponse { namespaces, next_page_token }))
    }

    async fn update_namespace(
        &self,
        request: Request<pb::UpdateNamespaceRequest>,
    ) -> Result<Response<pb::UpdateNamespaceResponse>, Status> {
        let request = request.into_inner();
        let namespace = request.namespace.ok_or_else(|| Error::invalid("namespace", "missing"))?;
        let mask = request.update_mask.unwrap_or_default();
        if mask.paths.is_empty() {
            return Err(Error::invalid("update_mask", "names no field").into());
        }
        let mut changes = NamespaceChanges::default();
        for path in &mask.paths {
            match path.as_str() {
                "display_name" => changes.display_name = Some(namespace.display_name.clone()),
                "description" => changes.description = Some(namespace.description.clone()),
                other => return Err(bad_path(other, &["code", "type"]).into()),
            }
        }
        let etag = Some(namespace.etag).filter(|etag| !etag.is_empty());
        let (code, check) = (namespace.code, request.validate_only);
        let updated = self.store.update_namespace(code, etag, changes, check).await?;
        let namespace = Some(to_proto::namespace(&updated));
        Ok(Response::new(pb::UpdateNamespaceResponse { namespace }))
    }
}

fn kind(kind: i32) -> Result<NamespaceType, Error> {
    Ok(match from_proto::enumeration("namespace.type", kind)? {
        pb::NamespaceType::Unspecified => {
            return Err(Error::invalid("namespace.type", "missing"));
        }
        pb::NamespaceType::Cookie => NamespaceType::Cookie,
        pb::NamespaceType::CrossDevice => NamespaceType::CrossDevice,
        pb::NamespaceType::Device => NamespaceType::Device,
        pb::NamespaceType::Email => NamespaceType::Email,
        pb::NamespaceType::Phone => NamespaceType::Phone,
        pb::NamespaceType::NonPeople => NamespaceType::NonPeople,
        pb::NamespaceType::Partner => NamespaceType::Partner,
    })
}
